package config

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// maxFileBytes bounds the configuration file.
const maxFileBytes = 16 << 20 // 16 MiB, thousands of tenants

// override is an environment variable that goes before the file.
type override struct{ env, key string }

// overrides returns all of them, one by one: a scheme that covers every key can erase a block, and Kubernetes sets
// variables such as SLUICE_PORT by itself.
func overrides() []override {
	return []override{
		{"SLUICE_ADMIN_TOKEN", "admin.token"},
		{"SLUICE_ADMIN_ADDRESS", "admin.address"},
		{"SLUICE_LOG_LEVEL", "log.level"},
		{"SLUICE_LOG_FORMAT", "log.format"},
		{"SLUICE_STATE_DIR", "state_dir"},
		{"SLUICE_SHUTDOWN_TIMEOUT", "shutdown_timeout"},
	}
}

// Default returns the configuration of a file that holds no settings: two listeners and one tenant. It does not look
// at the environment or at files; relative paths are as they are documented.
func Default() Config {
	w := newWalker("")
	c, err := decode(viper.New(), w.absent(root()).(map[string]any))
	if err != nil {
		panic(fmt.Sprintf("bug: the defaults: %v", err))
	}
	resolve(c)
	return *c
}

// Load reads the configuration file at path, lays the overrides of the environment over it, and validates the
// result. It blocks on the file and on those that it refers to.
//
// The error is an *Error with every problem that was found. It wraps what the file system said, such as
// fs.ErrNotExist, if the file could not be read.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, &Error{File: path, Problems: []Problem{{Message: "read: " + reason(err).Error()}}, cause: err}
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, &Error{File: path, Problems: []Problem{{Message: "find its folder: " + err.Error()}}, cause: err}
	}
	return parse(data, path, dir)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("is larger than %d bytes", maxFileBytes)
	}
	return data, err
}

// parse is Load for a file that has been read.
func parse(data []byte, file, dir string) (*Config, error) {
	doc, problem := parseYAML(data)
	if problem != nil {
		return nil, newError(file, []Problem{*problem})
	}
	w := newWalker(dir)
	tree := w.block("", doc, root())
	c, err := w.overlay(tree)
	if err != nil {
		return nil, newError(file, append(w.problems, Problem{Message: err.Error()}))
	}
	resolve(c)
	k := w.checker(c)
	for i := range c.Tenants {
		k.usersFile(i, w.lines)
	}
	k.sets()
	k.check()
	if err := newError(file, w.located(k.problems)); err != nil {
		return nil, err
	}
	c.Files = w.read(file, c)
	return c, nil
}

// read returns the files that c comes from.
func (w *walker) read(file string, c *Config) []string {
	files := append([]string{file}, w.files...)
	for _, set := range c.NetworkSets {
		files = append(files, set.File)
	}
	for _, t := range c.Tenants {
		if t.Auth.UsersFile != "" {
			files = append(files, t.Auth.UsersFile)
		}
		if t.Auth.JWT.JWKSFile != "" {
			files = append(files, t.Auth.JWT.JWKSFile)
		}
	}
	return files
}

// root returns the description of the whole configuration.
func root() field { return field{typ: reflect.TypeFor[Config]()} }

// overlay lays the environment's overrides over the tree and returns both as a Config.
func (w *walker) overlay(tree map[string]any) (*Config, error) {
	v := viper.New()
	for _, o := range overrides() {
		if err := v.BindEnv(o.key, o.env); err != nil {
			return nil, fmt.Errorf("bind %s: %w", o.env, err)
		}
		text := os.Getenv(o.env)
		if text == "" {
			continue // viper takes an empty variable for one that is not set
		}
		w.override(v, o, text)
	}
	return decode(v, tree)
}

// override gives viper the typed value of an override.
func (w *walker) override(v *viper.Viper, o override, text string) {
	delete(w.lines, o.key)
	w.references[o.key] = o.env
	f := find(reflect.TypeFor[Config](), o.key)
	value, err := w.typed(text, f)
	if err != nil {
		w.problem(o.key, 0, "%s, got the value of %s", err, o.env)
		value = w.absent(f)
	}
	v.Set(o.key, value)
}

// decode returns a tree of typed values as a Config, with what is set in v going before it.
func decode(v *viper.Viper, tree map[string]any) (*Config, error) {
	if err := v.MergeConfigMap(tree); err != nil {
		return nil, fmt.Errorf("merge the settings: %w", err)
	}
	c := &Config{}
	err := v.Unmarshal(c, func(dc *mapstructure.DecoderConfig) {
		dc.TagName = "key"
		dc.DecodeHook = nil // the values have their types already
		dc.WeaklyTypedInput = false
		dc.ErrorUnused = true
	})
	if err != nil {
		return nil, fmt.Errorf("decode the settings: %w", err)
	}
	return c, nil
}

// resolve fills in the defaults that depend on other settings.
func resolve(c *Config) {
	for i := range c.Tenants {
		t := &c.Tenants[i]
		local := true
		for j := range t.Backend.Hosts {
			h := &t.Backend.Hosts[j]
			if h.Port == 0 {
				h.Port = t.Backend.Port
			}
			local = local && h.Local()
		}
		if t.Backend.TLSMode == "" {
			t.Backend.TLSMode = TLSVerifyFull
			if local {
				t.Backend.TLSMode = TLSPrefer
			}
		}
		resolveTLS(t)
		for j := range t.Databases {
			if d := &t.Databases[j]; d.DBName == "" {
				d.DBName = d.Name
			}
		}
	}
}

// resolveTLS fills in how far TLS is enforced. A role or database that does not say leaves it to the tenant, as the weakest
// word does.
func resolveTLS(t *Tenant) {
	if t.TLSEnforcement == "" {
		t.TLSEnforcement = TLSObserve
		if t.RequireTLS {
			t.TLSEnforcement = TLSEnforce
		}
	}
	for i := range t.Roles {
		t.Roles[i].TLSEnforcement = cmp.Or(t.Roles[i].TLSEnforcement, TLSObserve)
	}
	for i := range t.Databases {
		t.Databases[i].TLSEnforcement = cmp.Or(t.Databases[i].TLSEnforcement, TLSObserve)
	}
}

// checker returns a checker of c which knows what the walk has found.
func (w *walker) checker(c *Config) *checker {
	k := newChecker(c)
	k.references = w.references
	for _, p := range w.problems {
		k.broken[p.Path] = true
	}
	return k
}

// located returns the walk's problems and further ones, these with the line of their key, or of what it is missing in.
func (w *walker) located(further []Problem) []Problem {
	for _, p := range further {
		parents(p.Path, func(path string) bool {
			p.Line = w.lines[path]
			return p.Line == 0 && w.references[path] == ""
		})
		w.problems = append(w.problems, p)
	}
	return w.problems
}
