package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"sluice/internal/statefile"
	"sluice/netpolicy"
)

// Files in state_dir of what Sluice has seen by itself.
const (
	bansFile       = "bans.json"
	historyFile    = "history.json"
	recordsVersion = 1
)

const (
	bansEvery    = time.Second // between two writes of the bans
	historyEvery = time.Minute // between two of the history
)

// records keep bans and the history over a restart. They are written by a goroutine of their own, never on the path of a login.
type records struct {
	dir     *statefile.Dir // nil: there is no state_dir
	banned  chan struct{}  // holds a token while bans have changed that are not written
	written uint64         // the changes of the history that the file has
	failed  map[string]bool
}

// savedBans and savedHistory are the contents of the files.
type savedBans struct {
	Version int   `json:"version"`
	Bans    []Ban `json:"bans"`
}

type savedHistory struct {
	Version int           `json:"version"`
	Began   time.Time     `json:"began"`
	Clients []savedClient `json:"clients"` // the last seen first
}

type savedClient struct {
	Tenant   string     `json:"tenant"`
	Role     string     `json:"role"`
	Database string     `json:"database"`
	Mode     string     `json:"mode"`
	TLS      bool       `json:"tls,omitempty"`
	Addr     netip.Addr `json:"address"`
	Veiled   bool       `json:"veiled,omitempty"` // the address is that of a balancer that does not tell the client's
	Seen     time.Time  `json:"seen"`
}

func newRecords(dir *statefile.Dir) *records {
	return &records{dir: dir, banned: make(chan struct{}, 1), failed: make(map[string]bool)}
}

// changed has the bans be written soon. It does not block.
func (r *records) changed() {
	select {
	case r.banned <- struct{}{}:
	default: // it will
	}
}

// load reads what an earlier run has left, into g and h. Bans that have ended, or would not be made now, are left out.
//
// Errors name the file. One that cannot be read is not taken for empty: its bans would end.
func (r *records) load(g *netpolicy.Guard, h *history, now time.Time) error {
	if r.dir == nil {
		return nil
	}
	bans := savedBans{Bans: []Ban{}}
	seen := savedHistory{}
	if _, err := r.read(bansFile, &bans, bans.check); err != nil {
		return err
	}
	found, err := r.read(historyFile, &seen, seen.check)
	if err != nil {
		return err
	}
	list := make([]netpolicy.Ban, len(bans.Bans))
	for i, b := range bans.Bans {
		list[i] = netpolicy.Ban(b)
	}
	g.Restore(list, now)
	if found {
		h.restore(&seen)
		r.written = h.changes()
	}
	for _, c := range slices.Backward(seen.Clients) { // where roles come from, the last seen last
		if !c.Veiled {
			g.Succeeded(netpolicy.Attempt{Tenant: c.Tenant, Role: c.Role, Addr: c.Addr}, c.Seen)
		}
	}
	return nil
}

// read decodes a file, and reports whether it is there.
func (r *records) read(name string, into any, check func() error) (found bool, err error) {
	data, err := r.dir.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		if err = decodeRecord(data, into); err == nil {
			err = check()
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", r.dir.Path(name), err)
		}
	}
	if err != nil {
		return true, fmt.Errorf("state_dir: %w", err)
	}
	return true, nil
}

// decodeRecord reads one of the files. It takes nothing that it does not know.
func decodeRecord(data []byte, into any) error {
	var version struct{ Version int }
	if err := json.Unmarshal(data, &version); err != nil {
		return fmt.Errorf("is not JSON: %w", err)
	}
	if version.Version != recordsVersion {
		return fmt.Errorf("has version %d, this Sluice knows %d", version.Version, recordsVersion)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// check returns what means nothing in the bans.
func (b *savedBans) check() error {
	for i, ban := range b.Bans {
		switch {
		case ban.Tenant == "":
			return fmt.Errorf("bans[%d]: no tenant", i)
		case !ban.Network.IsValid() || ban.Network != netpolicy.Source(ban.Network.Addr()):
			return fmt.Errorf("bans[%d].network: must be an IPv4 address or an IPv6 /64", i)
		case ban.Until.IsZero():
			return fmt.Errorf("bans[%d]: no until", i)
		}
	}
	return nil
}

// check returns what means nothing in the history.
func (s *savedHistory) check() error {
	if s.Began.IsZero() {
		return errors.New("no began")
	}
	for i, c := range s.Clients {
		switch {
		case c.Tenant == "" || c.Seen.IsZero():
			return fmt.Errorf("clients[%d]: no tenant, or not seen", i)
		case !c.Addr.IsValid() || c.Addr.Is4In6():
			return fmt.Errorf("clients[%d].address: must be an IPv4 or IPv6 address", i)
		}
	}
	return nil
}

// keepRecords writes what has changed: bans at once, but for pauses in which further ones are collected, the history each minute.
// It ends with the server.
func (s *Server) keepRecords() {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	banned := s.records.banned
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-banned:
			s.writeBans()
			banned = nil
			pause.Reset(bansEvery)
		case <-pause.C:
			banned = s.records.banned
		case <-tick.C:
			s.writeHistory()
			if s.records.failed[bansFile] {
				s.writeBans()
			}
		}
	}
}

// writeBans writes the bans of now.
func (s *Server) writeBans() {
	if s.records.dir != nil {
		_ = s.writeRecord(bansFile, savedBans{Version: recordsVersion, Bans: s.Bans()}) // logged
	}
}

// writeHistory writes the history if it has changed.
func (s *Server) writeHistory() {
	if s.records.dir == nil || s.history.changes() == s.records.written {
		return
	}
	changes, saved := s.history.saved()
	if s.writeRecord(historyFile, saved) == nil {
		s.records.written = changes
	}
}

// writeRecord replaces a file. What keeps it from that is logged once, until it works again.
func (s *Server) writeRecord(name string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		panic(fmt.Sprintf("bug: %s is no JSON: %v", name, err))
	}
	err = s.records.dir.Write(name, append(data, '\n'))
	if err != nil && !s.records.failed[name] {
		s.log.Error("state cannot be written", logError, err)
	}
	s.records.failed[name] = err != nil
	return err
}
