// The same work in worker threads of Node, each with two items under way: prints the seconds that it took.
// node pool.mjs N
import { Worker, isMainThread, parentPort } from 'node:worker_threads';

if (isMainThread) {
  const n = Number(process.argv[2]);
  const workers = [0, 1].map(() => new Worker(new URL(import.meta.url)));
  await Promise.all(workers.map((w) => new Promise((ready) => w.once('online', ready))));
  const results = new Array(n);
  let next = 0;
  let done = 0;
  const from = performance.now();
  await new Promise((end) => {
    for (const w of workers) {
      const send = () => {
        if (next < n) w.postMessage([next, next++]);
      };
      w.on('message', ([i, result]) => {
        results[i] = result;
        send();
        if (++done === n) end();
      });
      send();
      send();
    }
  });
  console.log((performance.now() - from) / 1000);
  for (const w of workers) w.terminate();
} else {
  parentPort.on('message', ([i, n]) => parentPort.postMessage([i, n * n]));
}
