package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad: no file makes the loader panic, one that loads is valid, and one that does not has a reason.
func FuzzLoad(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", "sluice.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, b := range append(append(syntaxCases(), processCases()...), tenantCases()...) {
		f.Add([]byte(b.file))
	}
	f.Add([]byte("tenants: [&a {auth: {method: trust}}, {<<: *a, name: b}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data, "sluice.yaml", t.TempDir())
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "sluice.yaml:") {
				t.Errorf("parse = %v, %q: want no configuration, and an error that names the file", c, err)
			}
			return
		}
		if problems := c.Validate(); len(problems) > 0 {
			t.Errorf("what loads is not valid: %v", problems)
		}
	})
}

// FuzzFromURL: no URL makes it panic, and the password is in no error.
func FuzzFromURL(f *testing.F) {
	f.Add("u", "h:1,%2Frun:2/d?sslmode=require&sslrootcert=system")
	f.Add("u%zz", "[::1]/?host=/run&port=x&x=y")
	f.Fuzz(func(t *testing.T, before, after string) {
		const password = "Zq9zQxJ7wKvP"
		c, err := FromURL("postgres://" + before + ":" + password + "@" + after)
		if err != nil {
			if strings.Contains(err.Error(), password) {
				t.Errorf("the password is in %q", err)
			}
			return
		}
		if problems := c.Validate(); len(problems) > 0 {
			t.Errorf("what loads is not valid: %v", problems)
		}
	})
}
