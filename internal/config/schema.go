package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// field is a setting, or a block of settings, as the tags of its struct field describe it.
type field struct {
	key      string
	doc      string
	unit     string
	fallback string // the default, as YAML; empty: the zero value
	shown    string // what the documentation says instead of the default
	reload   string // "live" or "restart"; empty for a block
	min, max string
	oneOf    []string
	required bool
	path     bool // a file, relative to the configuration file
	single   bool // a list of one may be given without brackets

	typ   reflect.Type
	index []int
}

// fields returns the fields of a struct type in their order, those of embedded structs among them.
func fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		sf := t.Field(i)
		switch key := sf.Tag.Get("key"); key {
		case "-":
		case ",squash":
			for _, f := range fields(sf.Type) {
				f.index = append([]int{i}, f.index...)
				list = append(list, f)
			}
		default:
			list = append(list, newField(sf, key))
		}
	}
	return list
}

func newField(sf reflect.StructField, key string) field {
	return field{
		key:      key,
		doc:      sf.Tag.Get("doc"),
		unit:     sf.Tag.Get("unit"),
		fallback: sf.Tag.Get("default"),
		shown:    sf.Tag.Get("shown"),
		reload:   sf.Tag.Get("reload"),
		min:      sf.Tag.Get("min"),
		max:      sf.Tag.Get("max"),
		oneOf:    strings.Fields(sf.Tag.Get("oneof")),
		required: sf.Tag.Get("required") != "",
		path:     sf.Tag.Get("path") != "",
		single:   sf.Tag.Get("single") != "",
		typ:      sf.Type,
		index:    sf.Index,
	}
}

// element returns the description of an element of the list f.
func (f field) element() field {
	f.typ, f.single, f.fallback = f.typ.Elem(), false, ""
	return f
}

// scalar reports whether f is one value, not a list or a block.
func (f field) scalar() bool {
	switch f.typ {
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[AutoInt](), reflect.TypeFor[HostPort](), reflect.TypeFor[Setting](), reflect.TypeFor[Entry]():
		return true
	}
	return f.typ.Kind() != reflect.Slice && f.typ.Kind() != reflect.Struct
}

// block reports whether f is a struct of further settings.
func (f field) block() bool { return f.typ.Kind() == reflect.Struct && !f.scalar() }

// secret reports whether the value of f must not be shown.
func (f field) secret() bool { return f.typ == reflect.TypeFor[Secret]() }

// parse turns the text of a scalar into a value of f's type. Its error says what the text must be and never contains
// the text.
func (f field) parse(text string) (any, error) {
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		return parseDuration(text)
	case reflect.TypeFor[netip.Prefix]():
		return parsePrefix(text)
	case reflect.TypeFor[fs.FileMode]():
		return parseFileMode(text)
	case reflect.TypeFor[AutoInt]():
		return parseAutoInt(text)
	case reflect.TypeFor[HostPort]():
		return parseHostPort(text)
	case reflect.TypeFor[Setting]():
		return parseSetting(text)
	case reflect.TypeFor[Entry]():
		return parseEntry(text)
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return parseBool(text)
	case reflect.Int:
		return parseInt(text)
	case reflect.String:
		return reflect.ValueOf(text).Convert(f.typ).Interface(), nil
	default:
		panic(fmt.Sprintf("bug: setting %q has type %s", f.key, f.typ))
	}
}

// setting is one setting of a configuration, with where it stands.
type setting struct {
	field
	path    string // with indexes: tenants[0].roles[1].modes
	pattern string // without: tenants[].roles[].modes
	value   reflect.Value
}

// visit calls yield for every setting under v: for blocks with what is in them, for lists as a whole and then for
// each of their elements.
func visit(v reflect.Value, path, pattern string, yield func(setting)) {
	for _, f := range fields(v.Type()) {
		visitField(setting{f, join(path, f.key), join(pattern, f.key), v.FieldByIndex(f.index)}, yield)
	}
}

func visitField(s setting, yield func(setting)) {
	if s.block() {
		visit(s.value, s.path, s.pattern, yield)
		return
	}
	yield(s)
	if s.scalar() {
		return
	}
	for i := range s.value.Len() {
		visitField(setting{s.element(), item(s.path, i), s.pattern + "[]", s.value.Index(i)}, yield)
	}
}

// find returns the field at a dotted path of blocks under t.
func find(t reflect.Type, path string) field {
	key, rest, more := strings.Cut(path, ".")
	list := fields(t)
	i := slices.IndexFunc(list, func(f field) bool { return f.key == key })
	if i < 0 {
		panic("bug: no setting " + path)
	}
	if more {
		return find(list[i].typ, rest)
	}
	return list[i]
}
