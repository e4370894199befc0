package proxy

import (
	"reflect"
	"testing"
)

// TestAnIdleClientIsSmall: what has pointers gets a header beyond 512 bytes, and the next size of memory has room for 568.
func TestAnIdleClientIsSmall(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[session]().Size(); size > 512 {
		t.Errorf("a session has %d bytes, at most 512 are to be", size)
	}
}
