package config

import (
	"reflect"
	"slices"
)

// feature is a part of the contract that this version does not have yet.
type feature struct {
	setting   string // with [] for any element
	refused   string // in words, for the documentation
	supported func(value any) bool
}

// features returns them all. Their settings are accepted with values that do without them; anything else is a problem
// rather than ignored. Delete a row when the feature is there.
func features() []feature {
	return []feature{
		{"console.admin_roles", "anything but []", empty},
		{"console.stats_roles", "anything but []", empty},
	}
}

// unsupported reports settings that ask for what this version does not have.
func (k *checker) unsupported() {
	rows := features()
	visit(reflect.ValueOf(k.cfg).Elem(), "", "", func(s setting) {
		i := slices.IndexFunc(rows, func(f feature) bool { return f.setting == s.pattern })
		if i < 0 || rows[i].supported(s.value.Interface()) {
			return
		}
		if s.scalar() {
			k.add(s.path, "is not supported by this version, %s", k.got(s.path, s.value.Interface()))
			return
		}
		k.add(s.path, "is not supported by this version: leave it empty")
	})
}

// empty reports whether value is zero or a list without elements.
func empty(value any) bool {
	v := reflect.ValueOf(value)
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}
