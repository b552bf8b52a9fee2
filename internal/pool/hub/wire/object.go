package wire

import (
	"fmt"

	"gpool/internal/value"
)

// Encode puts the description into a message.
func (o *Object) Encode() []byte {
	b, err := value.Append(nil, o)
	if err != nil { // it is text and a number
		panic(fmt.Sprintf("wire: encode a description: %v", err))
	}
	return b
}

// DecodeObject reads what Encode has made.
func DecodeObject(b []byte) (o Object, err error) {
	if err = value.Decode(b, &o); err != nil {
		err = fmt.Errorf("read the description of an object: %w", err)
	}
	return o, err
}
