package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"sluice/internal/spelling"
)

// maxValues bounds how many values a file can have once its aliases are followed: a few lines of aliases of aliases
// are otherwise worth billions.
const maxValues = 200_000

// maxMergeDepth bounds how deep merge keys are followed; one that merges itself never ends.
const maxMergeDepth = 16

// walker holds a YAML tree against the types of the configuration. It turns scalars into typed values, fills in
// defaults, and collects what is wrong; for what is wrong the default stands in, so that the rest can be checked.
type walker struct {
	dir        string            // of the configuration file
	lines      map[string]int    // where each path that the file has stands
	files      []string          // that values come from
	references map[string]string // the env(NAME) or file(PATH) that a path's value comes from
	problems   []Problem
	left       int // of maxValues
	defaults   map[string]*yaml.Node
}

func newWalker(dir string) *walker {
	return &walker{
		dir:        dir,
		lines:      map[string]int{},
		references: map[string]string{},
		left:       maxValues,
		defaults:   map[string]*yaml.Node{},
	}
}

// problem notes what is wrong at a path.
func (w *walker) problem(path string, line int, format string, args ...any) {
	w.problems = append(w.problems, Problem{Path: path, Line: line, Message: fmt.Sprintf(format, args...)})
}

// value returns what n means as a value of f's type: a typed scalar, a slice of them, []any of maps, or a map.
func (w *walker) value(path string, n *yaml.Node, f field) any {
	if w.left--; w.left < 0 {
		if w.left == -1 {
			w.problem("", n.Line, "has more than %d values", maxValues)
		}
		return w.absent(f)
	}
	n = target(n)
	switch is := kind(n); {
	case is == kindNull:
		w.problem(path, n.Line, "is null: give it a value or remove the key")
	case f.block() && is == kindBlock:
		return w.block(path, n, f)
	case f.block():
		w.problem(path, n.Line, "must be a block of settings, got %s", is)
	case f.scalar() && is == kindValue:
		return w.scalar(path, n, f)
	case f.scalar():
		w.problem(path, n.Line, "must be a single value, got %s", is)
	case is == kindList:
		return w.list(path, n, f)
	case f.single && is == kindValue:
		return w.single(path, n, f)
	default:
		w.problem(path, n.Line, "must be a list, got %s", is)
	}
	return w.absent(f)
}

// block returns the settings of a mapping, with the defaults of those that it does not have.
func (w *walker) block(path string, n *yaml.Node, f field) map[string]any {
	pairs := map[string]*yaml.Node{}
	known := fields(f.typ)
	for _, p := range w.pairs(path, n, 0) {
		if isKey(known, p.key) {
			pairs[p.key] = p.value
			w.lines[join(path, p.key)] = p.line
			continue
		}
		w.problem(join(path, harmless(p.key)), p.line, "unknown key%s", meantKey(p.key, known))
	}
	tree := make(map[string]any, len(known))
	for _, k := range known {
		at := join(path, k.key)
		v, ok := pairs[k.key]
		switch {
		case ok:
			tree[k.key] = w.value(at, v, k)
		case k.required:
			w.problem(at, n.Line, "is required")
			fallthrough
		default:
			tree[k.key] = w.absent(k)
		}
	}
	return tree
}

// meantKey returns the end of a message about an unknown key: the known one that may be meant.
func meantKey(key string, known []field) string {
	if harmless(key) != key {
		return ""
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.key
	}
	return spelling.Hint(key, names)
}

// list returns the elements of a sequence. A wrong one is there as its zero value, so that indexes stay what they are.
func (w *walker) list(path string, n *yaml.Node, f field) any {
	e := f.element()
	if e.block() {
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			w.lines[item(path, i)] = c.Line
			list[i] = w.value(item(path, i), c, e)
		}
		return list
	}
	list := reflect.MakeSlice(f.typ, len(n.Content), len(n.Content))
	for i, c := range n.Content {
		w.lines[item(path, i)] = c.Line
		list.Index(i).Set(reflect.ValueOf(w.value(item(path, i), c, e)))
	}
	return list.Interface()
}

// single returns the list whose only element is the scalar n.
func (w *walker) single(path string, n *yaml.Node, f field) any {
	list := reflect.MakeSlice(f.typ, 1, 1)
	list.Index(0).Set(reflect.ValueOf(w.value(path, n, f.element())))
	return list.Interface()
}

// scalar returns the typed value of n, after following env() and file().
func (w *walker) scalar(path string, n *yaml.Node, f field) any {
	text, elsewhere, err := dereference(n.Value, w.dir)
	if err != nil {
		w.problem(path, n.Line, "%s", err)
		return w.absent(f)
	}
	if elsewhere {
		w.references[path] = n.Value
		if file, ok := argument(n.Value, "file"); ok {
			w.files = append(w.files, within(w.dir, file))
		}
	} else if err := fits(n, f); err != nil {
		w.problem(path, n.Line, "%s%s", err, got(n, f))
		return w.absent(f)
	}
	v, err := w.typed(text, f)
	if err != nil {
		w.problem(path, n.Line, "%s%s", err, got(n, f))
		return w.absent(f)
	}
	return v
}

// typed returns text as a value of f's type.
func (w *walker) typed(text string, f field) (any, error) {
	if strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("must not contain a zero byte")
	}
	if f.path {
		text = within(w.dir, text)
	}
	return f.parse(text)
}

// absent returns what f is if the file does not have it.
func (w *walker) absent(f field) any {
	if f.fallback != "" {
		return w.fallback(f)
	}
	switch {
	case f.block():
		return w.inner().block("", &yaml.Node{Kind: yaml.MappingNode}, f)
	case f.scalar():
		return reflect.Zero(f.typ).Interface()
	case f.element().block():
		return []any{}
	default:
		return reflect.MakeSlice(f.typ, 0, 0).Interface()
	}
}

// fallback returns the default of f.
func (w *walker) fallback(f field) any {
	n, ok := w.defaults[f.fallback]
	if !ok {
		n = &yaml.Node{}
		if err := yaml.Unmarshal([]byte(f.fallback), n); err != nil {
			panic(fmt.Sprintf("bug: default of %s: %v", f.key, err))
		}
		w.defaults[f.fallback] = n
	}
	inner := w.inner()
	v := inner.value(f.key, n.Content[0], f)
	if len(inner.problems) > 0 {
		panic(fmt.Sprintf("bug: default of %s: %v", f.key, inner.problems))
	}
	return v
}

// inner returns a walker for what is not in the file: what it finds and notes is not w's.
func (w *walker) inner() *walker {
	inner := newWalker(w.dir)
	inner.defaults = w.defaults
	return inner
}

// got returns ", got …" for a message about n, without a value that may be a secret.
func got(n *yaml.Node, f field) string {
	if referenced(n.Value) {
		return ", got the value of " + n.Value
	}
	if f.secret() {
		return ""
	}
	if n.ShortTag() == "!!str" {
		return ", got " + quote(n.Value)
	}
	return ", got " + clip(n.Value)
}
