package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"sluice/proxy"
)

// maxBansRequest bounds the body of a request to clear bans.
const maxBansRequest = 4 << 10 // 4 KiB

// Bans is what operators ask about addresses that are banned. Its methods are called from many goroutines at a time.
type Bans interface {
	// Bans returns those of now.
	Bans() []proxy.Ban
	// ClearBans ends the bans of a tenant, of all if the name is empty, that touch the network, or any with the zero Prefix. It
	// returns how many there were.
	ClearBans(tenant string, network netip.Prefix, by proxy.Author) int
}

// banRoutes are about bans. They need the token to look as well: addresses of clients are shown to nobody else.
func (s *Server) banRoutes() []route {
	if s.params.Bans == nil {
		return nil
	}
	return []route{
		{"GET /api/v1/bans", "addresses that are banned because of failed logins; with the token", s.change(s.bans)},
		{"POST /api/v1/bans/clear", `end bans: {"network": "203.0.113.7"} or {"all": true}, and "tenant"; with the token`, s.change(s.clearBans)},
	}
}

func (s *Server) bans(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"bans": s.params.Bans.Bans()})
}

// clearing says which bans to end. Network is an address or a network; without it All must be set.
type clearing struct {
	Tenant  string `json:"tenant"`
	Network string `json:"network"`
	All     bool   `json:"all"`
}

func (s *Server) clearBans(w http.ResponseWriter, r *http.Request) {
	var c clearing
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBansRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		fail(w, http.StatusBadRequest, "the body must be JSON such as {\"network\": \"203.0.113.7\"}: "+err.Error())
		return
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		fail(w, http.StatusBadRequest, "the body must be one JSON object")
		return
	}
	network, err := c.network()
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	n := s.params.Bans.ClearBans(c.Tenant, network, authorOf(r))
	s.params.Log.Info("bans cleared by an operator", "client_addr", callerOf(r), "tenant", c.Tenant, "network", c.Network, "count", n)
	answer(w, http.StatusOK, map[string]int{"cleared": n})
}

// network returns the network that is meant; the zero Prefix is all.
func (c clearing) network() (netip.Prefix, error) {
	switch {
	case (c.Network == "") != c.All:
		return netip.Prefix{}, errors.New(`either "network" or "all" must be given`)
	case c.All:
		return netip.Prefix{}, nil
	}
	if addr, err := netip.ParseAddr(c.Network); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(c.Network)
	if err != nil || prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("network: must be an address or a network such as 203.0.113.0/24, got %q", c.Network)
	}
	return prefix, nil
}
