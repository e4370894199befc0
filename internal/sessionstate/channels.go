package sessionstate

import (
	"slices"
	"strings"
)

// Channels is a set of notification channels. It does not change; nil is the empty one.
type Channels struct {
	names []string // sorted, each once
}

// NewChannels returns the set of the names; nil if there are none.
func NewChannels(names []string) *Channels {
	if len(names) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(names))
	return &Channels{names: slices.Compact(sorted)}
}

// Names returns the names in order. It is not to be changed.
func (c *Channels) Names() []string {
	if c == nil {
		return nil
	}
	return c.names
}

// Equal reports whether both are the same set.
func (c *Channels) Equal(other *Channels) bool {
	return c == other || slices.Equal(c.Names(), other.Names())
}

// Has reports whether name is in the set.
func (c *Channels) Has(name []byte) bool {
	_, found := slices.BinarySearchFunc(c.Names(), name, func(a string, b []byte) int { return strings.Compare(a, view(b)) })
	return found
}

// Without returns the names that are not in other.
func (c *Channels) Without(other *Channels) (names []string) {
	for _, name := range c.Names() {
		if !other.Has([]byte(name)) {
			names = append(names, name)
		}
	}
	return names
}

// Common returns the names that are in other too.
func (c *Channels) Common(other *Channels) (names []string) {
	for _, name := range c.Names() {
		if other.Has([]byte(name)) {
			names = append(names, name)
		}
	}
	return names
}

// QuoteIdentifier writes a name so that Postgres takes it as it is.
func QuoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
