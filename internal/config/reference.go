package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxReferencedBytes bounds what file(PATH) reads: a secret, a query or a certificate's path, never a large file.
const maxReferencedBytes = 1 << 20 // 1 MiB

// dereference returns the value of env(NAME) or file(PATH), and whether text is one of them at all. Relative paths are
// taken from dir. What stands there is not looked at again. The errors never contain a value.
func dereference(text, dir string) (value string, is bool, err error) {
	if name, ok := argument(text, "env"); ok {
		value, err = environment(name)
		return value, true, err
	}
	if path, ok := argument(text, "file"); ok {
		value, err = contents(within(dir, path))
		if err != nil {
			err = fmt.Errorf("%s: %w", text, err)
		}
		return value, true, err
	}
	return text, false, nil
}

// referenced reports whether text is env(NAME) or file(PATH).
func referenced(text string) bool {
	_, env := argument(text, "env")
	_, file := argument(text, "file")
	return env || file
}

// argument returns the argument of function in "function(argument)".
func argument(text, function string) (string, bool) {
	rest, ok := strings.CutPrefix(text, function+"(")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, ")")
}

func environment(name string) (string, error) {
	value, ok := os.LookupEnv(name)
	switch {
	case !ok:
		return "", fmt.Errorf("env(%s): the environment variable is not set", name)
	case value == "":
		return "", fmt.Errorf("env(%s): the environment variable is empty", name)
	}
	return value, nil
}

// contents returns what is in a file, less one line end at its end. An empty file is an error.
func contents(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", reason(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", reason(err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxReferencedBytes+1))
	if err != nil {
		return "", reason(err)
	}
	if len(data) > maxReferencedBytes {
		return "", fmt.Errorf("is larger than %d bytes", maxReferencedBytes)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", errors.New("the file is empty")
	}
	return text, nil
}

// reason returns what the operating system said, without the path, which the caller shows already.
func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// within returns path, or if it is relative, path under dir. The empty path stays empty.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
