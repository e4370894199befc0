package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/internal/spelling"
)

// Validate returns everything that is wrong with c, nil if nothing is. It looks at values only, not at files, and is
// part of Load and FromURL; Problem.Line is 0.
func (c *Config) Validate() []Problem {
	k := newChecker(c)
	k.check()
	return k.problems
}

// checker holds a configuration against the rules. What is known to be broken already is not reported again, nor is
// what follows from it.
type checker struct {
	cfg        *Config
	broken     map[string]bool   // paths with problems that are known already
	references map[string]string // paths whose values come from elsewhere and are not shown
	problems   []Problem
}

func newChecker(c *Config) *checker {
	return &checker{cfg: c, broken: map[string]bool{}, references: map[string]string{}}
}

func (k *checker) check() {
	visit(reflect.ValueOf(k.cfg).Elem(), "", "", k.setting)
	k.unsupported()
	k.listeners()
	k.networkSets()
	k.identMaps()
	k.process()
	k.admin()
	k.tenants()
	k.loops()
}

// add notes what is wrong at a path, unless something there is known to be wrong already.
func (k *checker) add(path, format string, args ...any) {
	if k.sound(path) {
		k.problems = append(k.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// sound reports whether the values at these paths are those of the file, not stand-ins for broken ones.
func (k *checker) sound(paths ...string) bool {
	for _, p := range paths {
		ok := true
		parents(p, func(path string) bool {
			ok = !k.broken[path]
			return ok
		})
		if !ok {
			return false
		}
	}
	return true
}

// origin returns where the value at path comes from, if that is not the file: then it may be a secret, and is not shown.
func (k *checker) origin(path string) (from string) {
	parents(path, func(p string) bool {
		from = k.references[p]
		return from == ""
	})
	return from
}

// got returns "got …" with the value at path, or with where it comes from if that may be a secret.
func (k *checker) got(path string, value any) string {
	if from := k.origin(path); from != "" {
		return "got the value of " + from
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.String {
		return "got " + quote(v.String())
	}
	return fmt.Sprintf("got %v", value)
}

// setting checks what the tags of a setting say.
func (k *checker) setting(s setting) {
	if !s.scalar() {
		return
	}
	if s.required && s.value.Kind() == reflect.String && s.value.Len() == 0 {
		k.add(s.path, "must not be empty")
		return
	}
	if len(s.oneOf) > 0 && !slices.Contains(s.oneOf, s.value.String()) {
		k.add(s.path, "must be one of %s, %s%s", strings.Join(s.oneOf, ", "), k.got(s.path, s.value.Interface()), k.meant(s))
	}
	k.limit(s)
}

// meant returns the end of a message about a value that is not one of those that there are: the one that may be meant.
func (k *checker) meant(s setting) string {
	if k.origin(s.path) != "" {
		return ""
	}
	return spelling.Hint(s.value.String(), s.oneOf)
}

// limit checks min and max.
func (k *checker) limit(s setting) {
	n, ok := magnitude(s.value.Interface())
	if !ok {
		return
	}
	if bound, _ := magnitude(s.bound(s.min)); s.min != "" && n < bound {
		k.add(s.path, "must be at least %s, %s", s.min, k.got(s.path, s.value.Interface()))
	}
	if bound, _ := magnitude(s.bound(s.max)); s.max != "" && n > bound {
		k.add(s.path, "must be at most %s, %s", s.max, k.got(s.path, s.value.Interface()))
	}
}

// bound returns the value of a min or max tag, nil if there is none.
func (f field) bound(tag string) any {
	if tag == "" {
		return nil
	}
	v, err := f.parse(tag)
	if err != nil {
		panic(fmt.Sprintf("bug: range of %s: %v", f.key, err))
	}
	return v
}

// magnitude returns the number in a value that min and max can bound.
func magnitude(value any) (int64, bool) {
	switch v := value.(type) {
	case int:
		return int64(v), true
	case time.Duration:
		return int64(v), true
	case AutoInt:
		return int64(v.N), !v.Auto
	}
	return 0, false
}

// unique reports names that stand in a list twice. path gives the path of the i-th name.
func (k *checker) unique(names []string, path func(int) string) {
	first := map[string]int{}
	for i, name := range names {
		if name == "" || !k.sound(path(i)) {
			continue
		}
		if j, dup := first[name]; dup {
			k.add(path(i), "must be unique, %s is the same", path(j))
			continue
		}
		first[name] = i
	}
}

// together reports a pair of settings of which only one is set.
func (k *checker) together(prefix, key, value, otherKey, other string) {
	a, b := join(prefix, key), join(prefix, otherKey)
	if (value == "") == (other == "") || !k.sound(a, b) {
		return
	}
	if value == "" {
		a, b = b, a
	}
	k.add(a, "needs %s", b)
}
