// The floors of the benchmarks: what the kernel takes for the same work. Each prints the
// seconds that it took, without the start of the processes where those are kept.
//
//   floor spawn P N            P processes run N /bin/echo between them by posix_spawn, each
//                              with its output captured
//   floor echo P N SIZE WINDOW N frames of SIZE bytes go through pipes to P processes and
//                              back, with WINDOW of them under way in each
//   floor ping N SIZE          N times one frame of SIZE bytes goes to a process and back
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void check(int ok)
{
	if (!ok) {
		perror("floor");
		_exit(3);
	}
}

static void put(int fd, const char *b, size_t n)
{
	for (ssize_t k; n > 0; b += k, n -= k)
		check((k = write(fd, b, n)) > 0);
}

// get returns 0 at the end of the stream.
static int get(int fd, char *b, size_t n)
{
	for (ssize_t k; n > 0; b += k, n -= k)
		if ((k = read(fd, b, n)) <= 0)
			return 0;
	return 1;
}

static void run(int i)
{
	int fd[2];
	char word[32], buf[4096];
	char *argv[] = {"/bin/echo", word, NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;

	snprintf(word, sizeof word, "%d", i);
	check(pipe2(fd, O_CLOEXEC) == 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[1], 1);
	check(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ) == 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[1]);
	while (read(fd[0], buf, sizeof buf) > 0)
		;
	close(fd[0]);
	waitpid(pid, NULL, 0);
}

static void spawn(int processes, int n)
{
	for (int p = 0; p < processes; p++)
		if (fork() == 0) {
			for (int i = p; i < n; i += processes)
				run(i);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
}

struct echo {
	int in, out; // what it reads, and what comes from it
	int n;
	size_t size;
	sem_t room;
	pthread_t feeder;
};

static struct echo start(size_t size)
{
	int there[2], back[2];
	struct echo e = {.size = size};

	check(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0);
	if (fork() == 0) {
		char *b = malloc(size);
		close(there[1]);
		close(back[0]);
		while (get(there[0], b, size))
			put(back[1], b, size);
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	e.in = there[1], e.out = back[0];
	return e;
}

static void *feed(void *arg)
{
	struct echo *e = arg;
	char *b = calloc(1, e->size);
	for (int i = 0; i < e->n; i++) {
		sem_wait(&e->room);
		put(e->in, b, e->size);
	}
	free(b);
	return NULL;
}

static void *drain(void *arg)
{
	struct echo *e = arg;
	char *b = malloc(e->size);
	for (int i = 0; i < e->n; i++) {
		check(get(e->out, b, e->size));
		sem_post(&e->room);
	}
	free(b);
	return NULL;
}

static void echo(int processes, int n, size_t size, int window)
{
	struct echo *all = calloc(processes, sizeof *all);
	pthread_t *drains = calloc(processes, sizeof *drains);
	for (int p = 0; p < processes; p++) {
		all[p] = start(size);
		all[p].n = n / processes;
		sem_init(&all[p].room, 0, window);
	}
	double from = now();
	for (int p = 0; p < processes; p++)
		check(pthread_create(&all[p].feeder, NULL, feed, &all[p]) == 0 &&
			pthread_create(&drains[p], NULL, drain, &all[p]) == 0);
	for (int p = 0; p < processes; p++) {
		pthread_join(all[p].feeder, NULL);
		pthread_join(drains[p], NULL);
	}
	printf("%.9f\n", now() - from);
}

static void ping(int n, size_t size)
{
	struct echo e = start(size);
	char *b = calloc(1, size);
	double from = now();
	for (int i = 0; i < n; i++) {
		put(e.in, b, size);
		check(get(e.out, b, size));
	}
	printf("%.9f\n", now() - from);
}

int main(int argc, char **argv)
{
	int n[5] = {0};
	for (int i = 2; i < argc && i < 6; i++)
		n[i - 2] = atoi(argv[i]);
	double from = now();
	if (argc == 4 && strcmp(argv[1], "spawn") == 0) {
		spawn(n[0], n[1]);
		printf("%.9f\n", now() - from);
	} else if (argc == 6 && strcmp(argv[1], "echo") == 0)
		echo(n[0], n[1], n[2], n[3]);
	else if (argc == 4 && strcmp(argv[1], "ping") == 0)
		ping(n[0], n[1]);
	else
		return 2;
	return 0;
}
