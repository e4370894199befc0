package sessionstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChannelsAreASet(t *testing.T) {
	t.Parallel()
	set := NewChannels([]string{"b", "a", "b"})
	if diff := cmp.Diff([]string{"a", "b"}, set.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if !set.Equal(NewChannels([]string{"a", "b"})) || set.Equal(NewChannels([]string{"a"})) || set.Equal(nil) {
		t.Error("equal to others than itself, or not to itself")
	}
	var none *Channels
	if NewChannels(nil) != nil || !none.Equal(nil) || none.Has([]byte("a")) {
		t.Error("the empty set is not nil, or has something in it")
	}
	if !set.Has([]byte("a")) || set.Has([]byte("c")) {
		t.Error("has what it has not, or has not what it has")
	}
	if diff := cmp.Diff([]string{"b"}, set.Without(NewChannels([]string{"a", "c"}))); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
}

func TestChannelsInCommon(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"b"}, NewChannels([]string{"a", "b"}).Common(NewChannels([]string{"b", "c"}))); diff != "" {
		t.Errorf("in common (-want +got):\n%s", diff)
	}
}

func TestQuotedIdentifierIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	if got, want := QuoteIdentifier(`a"b C`), `"a""b C"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
