package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a configuration. It never holds a secret.
type Problem struct {
	Path    string // of the key, such as "tenants[0].roles[1].max_clients"; empty: the file as a whole
	Line    int    // in the file; 0 if it has none
	Message string
}

// String returns "path: message", without the line.
func (p Problem) String() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// Error holds everything that is wrong with a configuration: at least one problem, in the order of the file.
type Error struct {
	File     string // as it was given to Load; empty if there is no file
	Problems []Problem

	cause error // why the file could not be read, or nil
}

// Error returns one line for each problem: "file:line: path: message".
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.place(p) + p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns what the file system said if the file could not be read.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) place(p Problem) string {
	switch {
	case e.File == "":
		return ""
	case p.Line == 0:
		return e.File + ": "
	default:
		return e.File + ":" + strconv.Itoa(p.Line) + ": "
	}
}

// newError returns the problems as an error in the order of the file, nil if there are none.
func newError(file string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{File: file, Problems: slices.Compact(problems)}
}

// parents calls yield with path and every path above it: a[0].b, a[0], a.
func parents(path string, yield func(string) bool) {
	for path != "" && yield(path) {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// join returns the path of key under path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// item returns the path of the i-th element of the list at path.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
