package prepared

import (
	"slices"
	"testing"
)

func TestNumberedNamesComeAsTheirNumbersDo(t *testing.T) {
	t.Parallel()
	table := NewTable()
	var c Client
	want := []string{"b", "s_1", "s_2", "s_9", "s_10", "s_11"}
	for _, name := range slices.Backward(want) {
		c.Swap(name, table.Private("select 1\x00"))
	}
	if got := c.Names(); !slices.Equal(got, want) {
		t.Errorf("names = %q, want %q", got, want)
	}
}
