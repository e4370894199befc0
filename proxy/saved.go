package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"sluice/internal/config"
	"sluice/internal/statefile"
)

const (
	savedFile    = "policy.json" // in state_dir
	savedVersion = 1
)

// saved is what the API has changed, as the state file holds it. It is immutable: a change is a new one.
type saved struct {
	Version int           `json:"version"`
	Tenants []savedTenant `json:"tenants"`
}

// savedTenant is what the API says of a tenant; nil is what it says nothing about. It counts while the tenant's
// network.managed_by is api, and is kept while it does not.
type savedTenant struct {
	Name    string        `json:"name"`
	Network *savedNetwork `json:"network,omitempty"`
	TLS     *savedTLS     `json:"ssl_enforcement,omitempty"`
}

type savedNetwork struct {
	Allowed []config.Entry `json:"allowed_cidrs"`
	Before  []config.Entry `json:"before"`            // what counted until then; null: what the configuration says
	Pending *time.Time     `json:"pending,omitempty"` // when Before counts again unless the change is confirmed
	savedChange
}

type savedTLS struct {
	Required bool `json:"required"`
	savedChange
}

type savedChange struct {
	At time.Time `json:"changed_at"`
	By string    `json:"changed_by"`
}

// decodeSaved reads a state file. It takes nothing that it does not know: half a policy would let in too many.
func decodeSaved(data []byte) (*saved, error) {
	var version struct{ Version int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if version.Version != savedVersion {
		return nil, fmt.Errorf("has version %d, this Sluice knows %d", version.Version, savedVersion)
	}
	sv := &saved{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(sv); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, t := range sv.Tenants {
		if t.Name == "" || seen[t.Name] {
			return nil, fmt.Errorf("tenant %q: empty or twice", t.Name)
		}
		seen[t.Name] = true
		if n := t.Network; n != nil {
			if n.Allowed == nil {
				return nil, fmt.Errorf("tenant %q: no allowed_cidrs", t.Name)
			}
			for _, e := range slices.Concat(n.Allowed, n.Before) {
				if !e.Prefix.IsValid() {
					return nil, fmt.Errorf("tenant %q: an entry without a network", t.Name)
				}
			}
		}
	}
	return sv, nil
}

func (sv *saved) encode() []byte {
	data, err := json.MarshalIndent(sv, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("bug: the state is no JSON: %v", err))
	}
	return append(data, '\n')
}

// tenant returns what the API says of the tenant with that name.
func (sv *saved) tenant(name string) savedTenant {
	if i := slices.IndexFunc(sv.Tenants, func(t savedTenant) bool { return t.Name == name }); i >= 0 {
		return sv.Tenants[i]
	}
	return savedTenant{Name: name}
}

// counts returns what the API says of the tenant if it has a say.
func (sv *saved) counts(t *config.Tenant) savedTenant {
	if t.Network.ManagedBy != config.ManagedByAPI {
		return savedTenant{Name: t.Name}
	}
	return sv.tenant(t.Name)
}

// with returns a copy in which t is what the API says of its tenant.
func (sv *saved) with(t savedTenant) *saved {
	all := slices.DeleteFunc(slices.Clone(sv.Tenants), func(other savedTenant) bool { return other.Name == t.Name })
	if t.Network != nil || t.TLS != nil {
		all = append(all, t)
	}
	return &saved{Version: savedVersion, Tenants: all}
}

// due returns when the next change that nobody has confirmed goes back; zero: there is none.
func (sv *saved) due() (first time.Time) {
	for _, t := range sv.Tenants {
		if n := t.Network; n != nil && n.Pending != nil && (first.IsZero() || n.Pending.Before(first)) {
			first = *n.Pending
		}
	}
	return first
}

// rolledBack returns the state after the changes that should have been confirmed by now, and whose they were.
func (sv *saved) rolledBack(now time.Time) (after *saved, tenants []string) {
	after = sv
	for _, t := range sv.Tenants {
		if t.Network == nil || t.Network.Pending == nil || now.Before(*t.Network.Pending) {
			continue
		}
		tenants = append(tenants, t.Name)
		back := savedTenant{Name: t.Name, TLS: t.TLS}
		if t.Network.Before != nil {
			back.Network = &savedNetwork{
				Allowed: t.Network.Before, Before: t.Network.Allowed, savedChange: savedChange{now.UTC(), Author{Via: "clock"}.String()},
			}
		}
		after = after.with(back)
	}
	return after, tenants
}

var errStateChanged = errors.New("was changed by somebody else: reload first")

// keeper reads and writes the state file. The server's changing guards it.
type keeper struct {
	dir  *statefile.Dir // nil: there is no state_dir
	seen []byte         // what stood in the file when it was last read or written; nil: it was not there
}

func newKeeper(path string) (*keeper, error) {
	if path == "" {
		return &keeper{}, nil
	}
	dir, err := statefile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	return &keeper{dir: dir}, nil
}

// content returns what stands in the file; nil if it is not there.
func (k *keeper) content() ([]byte, error) {
	data, err := k.dir.Read(savedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	return data, nil
}

// read returns what the file says, with what it says it in. A file that has been there and is gone is an error: what it
// said would be forgotten.
func (k *keeper) read() (*saved, []byte, error) {
	if k.dir == nil {
		return &saved{Version: savedVersion}, nil, nil
	}
	data, err := k.content()
	switch {
	case err != nil:
		return nil, nil, err
	case data == nil && k.seen != nil:
		return nil, nil, fmt.Errorf("state_dir: %s: is gone; start anew to forget what it said", k.dir.Path(savedFile))
	case data == nil:
		return &saved{Version: savedVersion}, nil, nil
	}
	sv, err := decodeSaved(data)
	if err != nil {
		return nil, nil, fmt.Errorf("state_dir: %s: %w", k.dir.Path(savedFile), err)
	}
	return sv, data, nil
}

// changed reports whether the file is not what it was when it was last read or written.
func (k *keeper) changed() bool {
	if k.dir == nil {
		return false
	}
	data, err := k.content()
	return err != nil || !bytes.Equal(data, k.seen)
}

// write makes the file say what sv says.
func (k *keeper) write(sv *saved) error {
	data := sv.encode()
	if err := k.dir.Write(savedFile, data); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	k.seen = data
	return nil
}

// StateChanged reports whether the state file is another one than the API wrote or the last reload read.
func (s *Server) StateChanged() bool {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.keeper.changed()
}

// StateFile returns the path of the state file, empty if there is no state_dir.
func (s *Server) StateFile() string {
	if s.keeper.dir == nil {
		return ""
	}
	return s.keeper.dir.Path(savedFile)
}
