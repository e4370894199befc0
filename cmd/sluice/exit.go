package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"sluice/internal/config"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // at run time
	exitUsage  = 2 // the configuration or the arguments are wrong
)

// usageError says that the arguments are wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// unusableError is a configuration that is well formed but cannot be used: a file that it names is missing, say.
type unusableError struct {
	file string // empty: the configuration is not from a file
	errs []error
}

// Error returns one line for each problem: "file: path: message".
func (e *unusableError) Error() string {
	var text []string
	for _, err := range e.errs {
		for _, line := range lines(err) {
			if e.file != "" {
				line = e.file + ": " + line
			}
			text = append(text, line)
		}
	}
	return strings.Join(text, "\n")
}

// exitCode returns what the process ends with after err.
func exitCode(err error) int {
	var usage *usageError
	var malformed *config.Error
	var unusable *unusableError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.As(err, &malformed), errors.As(err, &unusable):
		return exitUsage
	default:
		return exitFailed
	}
}

// report writes what is wrong, one line each. Those about a file begin with its name, as compilers do.
func report(w io.Writer, err error) {
	if err == nil {
		return
	}
	prefix := "sluice: "
	var malformed *config.Error
	var unusable *unusableError
	if errors.As(err, &malformed) && malformed.File != "" || errors.As(err, &unusable) && unusable.file != "" {
		prefix = ""
	}
	for _, line := range lines(err) {
		_, _ = fmt.Fprintln(w, prefix+line) // nobody is left to be told
	}
}

// lines returns err as one line for each error that was joined into it, with what was wrapped around the join, such as a
// key path, in front of each.
func lines(err error) []string {
	text := err.Error()
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		joined, ok := inner.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		around, ends := strings.CutSuffix(text, inner.Error())
		if !ends || inner.Error() != joinedText(joined.Unwrap()) {
			break
		}
		var all []string
		for _, e := range joined.Unwrap() {
			for _, line := range lines(e) {
				all = append(all, around+line)
			}
		}
		return all
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// joinedText is the text of errors.Join.
func joinedText(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "\n")
}
