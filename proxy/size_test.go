package proxy

import (
	"reflect"
	"testing"
)

// TestAnIdleClientIsSmall: what has pointers gets a header beyond 512 bytes, so the sizes of memory have room for 568 bytes and 632.
func TestAnIdleClientIsSmall(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[session]().Size(); size > 568 {
		t.Errorf("a session has %d bytes, at most 568 are to be", size)
	}
}
