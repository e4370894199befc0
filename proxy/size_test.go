package proxy

import (
	"reflect"
	"testing"
)

// TestAnIdleClientIsSmall: beyond 512 bytes what has pointers gets a header, and the next size has room for 632 bytes.
func TestAnIdleClientIsSmall(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[session]().Size(); size > 512 {
		t.Errorf("a session has %d bytes, at most 512 are to be", size)
	}
}
