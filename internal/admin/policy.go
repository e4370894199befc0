package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"sluice/proxy"
)

const (
	maxBodyBytes   = 16 << 20 // 16 MiB: as many networks as a list may have, with comments
	maxAuthorBytes = 100
	authorHeader   = "Sluice-Author" // what the caller calls himself
)

// Policy is what the API shows and changes. Its errors are *proxy.RefusedError for what the caller can mend.
type Policy interface {
	Restrictions(tenant string) (proxy.Restrictions, error)
	Restrict(proxy.Restriction) (proxy.Restrictions, error)
	Confirm(tenant string, by proxy.Author) (proxy.Restrictions, error)
	Plan(proxy.Restriction) (proxy.Plan, error)
	Encryption(tenant string) (proxy.Encryption, error)
	Encrypt(tenant string, required bool, by proxy.Author) (proxy.Encryption, error)
}

// restrictionsView is a tenant's networks in the words of Supabase's management API, with what Sluice adds behind them.
type restrictionsView struct {
	Entitlement string       `json:"entitlement"` // allowed, disallowed: whether the API may change them
	Config      networksView `json:"config"`
	OldConfig   *networks    `json:"old_config,omitempty"`
	Status      string       `json:"status"` // always applied: it counts when the answer is sent
	UpdatedAt   *time.Time   `json:"updated_at,omitempty"`
	AppliedAt   *time.Time   `json:"applied_at,omitempty"`

	Tenant    string     `json:"tenant"`
	ManagedBy string     `json:"managed_by"`
	UpdatedBy string     `json:"updated_by,omitempty"`
	ConfirmBy *time.Time `json:"confirm_by,omitempty"`
}

type networks struct {
	IPv4 []string `json:"dbAllowedCidrs"`
	IPv6 []string `json:"dbAllowedCidrsV6"`
}

type networksView struct {
	networks
	Entries []entryView `json:"entries"` // the same with what else is known of them
}

type entryView struct {
	CIDR    string     `json:"cidr"`
	Until   *time.Time `json:"until,omitempty"`
	Comment string     `json:"comment,omitempty"`
}

func viewOf(r proxy.Restrictions) restrictionsView {
	v := restrictionsView{
		Entitlement: "disallowed", Config: networksView{networks: listsOf(r.Allowed), Entries: []entryView{}}, Status: "applied",
		UpdatedAt: known(r.ChangedAt), AppliedAt: known(r.ChangedAt), Tenant: r.Tenant, ManagedBy: "file", UpdatedBy: r.ChangedBy,
		ConfirmBy: known(r.ConfirmBy),
	}
	if r.Managed {
		v.Entitlement, v.ManagedBy = "allowed", "api"
	}
	for _, n := range r.Allowed {
		v.Config.Entries = append(v.Config.Entries, entryView{n.Prefix.String(), known(n.Until), n.Comment})
	}
	if r.Before != nil {
		old := listsOf(r.Before)
		v.OldConfig = &old
	}
	return v
}

func listsOf(all []proxy.AllowedNetwork) networks {
	lists := networks{IPv4: []string{}, IPv6: []string{}}
	for _, n := range all {
		if n.Prefix.Addr().Is4() {
			lists.IPv4 = append(lists.IPv4, n.Prefix.String())
		} else {
			lists.IPv6 = append(lists.IPv6, n.Prefix.String())
		}
	}
	return lists
}

// known returns t for JSON, nothing for the zero time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// restrictionBody is a request for other networks.
type restrictionBody struct {
	networks
	AllowNobody     bool   `json:"allowNobody"`
	AllowSelfCutoff bool   `json:"allowSelfCutoff"`
	ConfirmWithin   string `json:"confirmWithin"`
}

// encryptionBody and encryptionView are Supabase's, with the tenant.
type encryptionBody struct {
	Requested *struct {
		Database *bool `json:"database"`
	} `json:"requestedConfig"`
}

type encryptionView struct {
	Current   databaseView `json:"currentConfig"`
	Applied   bool         `json:"appliedSuccessfully"`
	Tenant    string       `json:"tenant"`
	ManagedBy string       `json:"managed_by"`
	Stage     string       `json:"tls_enforcement"`
}

type databaseView struct {
	Database bool `json:"database"`
}

func encryptionOf(e proxy.Encryption) encryptionView {
	v := encryptionView{Current: databaseView{e.Required}, Applied: true, Tenant: e.Tenant, ManagedBy: "file", Stage: e.Stage}
	if e.Managed {
		v.ManagedBy = "api"
	}
	return v
}

// planView says whom a restriction would cut off.
type planView struct {
	Tenant       string         `json:"tenant"`
	Sessions     int            `json:"sessions"`
	Connected    []connectedRow `json:"connected"`
	Absent       int            `json:"absent"`
	History      []absentRow    `json:"history"`
	HistorySince time.Time      `json:"history_since"`
	SelfCutoff   bool           `json:"self_cutoff"`
}

type clientRow struct {
	Role     string `json:"role"`
	Database string `json:"database"`
	Mode     string `json:"mode"`
	Network  string `json:"network"`
}

type connectedRow struct {
	clientRow
	Sessions int `json:"sessions"`
}

type absentRow struct {
	clientRow
	LastSeen time.Time `json:"last_seen"`
}

func planOf(p proxy.Plan) planView {
	v := planView{
		Tenant: p.Tenant, Sessions: p.Sessions, Connected: []connectedRow{}, Absent: p.Absent, History: []absentRow{},
		HistorySince: p.Since, SelfCutoff: p.SelfCut,
	}
	row := func(c proxy.PlanClient) clientRow { return clientRow{c.Role, c.Database, c.Mode, c.Network.String()} }
	for _, c := range p.Connected {
		v.Connected = append(v.Connected, connectedRow{row(c), c.Sessions})
	}
	for _, c := range p.History {
		v.History = append(v.History, absentRow{row(c), c.LastSeen})
	}
	return v
}

// policyRoutes are about who may connect.
func (s *Server) policyRoutes() []route {
	if s.params.Policy == nil {
		return nil
	}
	return []route{
		{"GET /api/v1/openapi.json", "describes /api/v1", s.describe},
		{"GET /api/v1/network-restrictions", "from where a tenant can be reached; ?tenant=NAME where there are several", s.private(s.restrictions)},
		{"POST /api/v1/network-restrictions/apply", "say from where a tenant can be reached; with the token", s.change(s.restrict)},
		{"POST /api/v1/network-restrictions/plan", "whom that would cut off; with the token", s.change(s.plan)},
		{"POST /api/v1/network-restrictions/confirm", "keep what confirmWithin would take back; with the token", s.change(s.confirm)},
		{"GET /api/v1/ssl-enforcement", "whether a tenant refuses clients without TLS", s.private(s.encryption)},
		{"PUT /api/v1/ssl-enforcement", "say whether it does; with the token", s.change(s.encrypt)},
	}
}

func (s *Server) restrictions(w http.ResponseWriter, r *http.Request) {
	tenant, err := tenantOf(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Restrictions(tenant)
	s.reply(w, http.StatusOK, err, func() any { return viewOf(result) })
}

func (s *Server) restrict(w http.ResponseWriter, r *http.Request) {
	wish, err := restrictionOf(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Restrict(wish)
	s.reply(w, http.StatusCreated, err, func() any { return viewOf(result) })
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	wish, err := restrictionOf(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Plan(wish)
	s.reply(w, http.StatusOK, err, func() any { return planOf(result) })
}

func (s *Server) confirm(w http.ResponseWriter, r *http.Request) {
	tenant, err := tenantOf(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Confirm(tenant, authorOf(r))
	s.reply(w, http.StatusOK, err, func() any { return viewOf(result) })
}

func (s *Server) encryption(w http.ResponseWriter, r *http.Request) {
	tenant, err := tenantOf(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Encryption(tenant)
	s.reply(w, http.StatusOK, err, func() any { return encryptionOf(result) })
}

func (s *Server) encrypt(w http.ResponseWriter, r *http.Request) {
	tenant, err := tenantOf(r)
	var body encryptionBody
	if err == nil {
		err = decode(w, r, &body)
	}
	if err == nil && (body.Requested == nil || body.Requested.Database == nil) {
		err = errors.New("requestedConfig.database: must be true or false")
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	result, err := s.params.Policy.Encrypt(tenant, *body.Requested.Database, authorOf(r))
	s.reply(w, http.StatusOK, err, func() any { return encryptionOf(result) })
}

// reply answers with view, or with what err says.
func (s *Server) reply(w http.ResponseWriter, code int, err error, view func() any) {
	var refused *proxy.RefusedError
	switch {
	case err == nil:
		answer(w, code, view())
	case errors.Is(err, proxy.ErrServerClosed):
		fail(w, http.StatusServiceUnavailable, "Sluice is shutting down, nothing was changed")
	case !errors.As(err, &refused):
		s.params.Log.Error("policy change failed", "error", err)
		fail(w, http.StatusInternalServerError, "nothing was changed: "+err.Error())
	case errors.Is(err, proxy.ErrUnknownTenant):
		fail(w, http.StatusNotFound, refused.Error())
	case errors.Is(err, proxy.ErrInvalidChange):
		fail(w, http.StatusBadRequest, refused.Error())
	default:
		fail(w, http.StatusConflict, refused.Error())
	}
}

// restrictionOf reads a request for other networks.
func restrictionOf(w http.ResponseWriter, r *http.Request) (proxy.Restriction, error) {
	wish := proxy.Restriction{Author: authorOf(r)}
	var err error
	if wish.Tenant, err = tenantOf(r); err != nil {
		return wish, err
	}
	var body restrictionBody
	if err := decode(w, r, &body); err != nil {
		return wish, err
	}
	if body.ConfirmWithin != "" {
		wish.ConfirmIn, err = time.ParseDuration(body.ConfirmWithin)
		if err != nil || wish.ConfirmIn < time.Second {
			return wish, errors.New("confirmWithin: must be a duration of at least 1s, such as 2m")
		}
	}
	wish.IPv4, wish.IPv6, wish.AllowNobody, wish.AllowCutoff = body.IPv4, body.IPv6, body.AllowNobody, body.AllowSelfCutoff
	if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		wish.Caller = from.Addr()
	}
	return wish, nil
}

// tenantOf returns the tenant that the request names, empty if it names none. Nothing else may stand in the query.
func tenantOf(r *http.Request) (string, error) {
	query := r.URL.Query()
	for key, values := range query {
		if key != "tenant" || len(values) != 1 || values[0] == "" {
			return "", errors.New("the query may only name one tenant, as in ?tenant=default")
		}
	}
	return query.Get("tenant"), nil
}

// decode reads the one JSON value of the body. A field that is not known is an error: it might have been meant to narrow.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the body is not as the API has it: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body has something behind its end")
	}
	return nil
}

// authorOf returns who asks, for the audit log.
func authorOf(r *http.Request) proxy.Author {
	name := strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, r.Header.Get(authorHeader))
	if p, local := overSocket(r); local {
		return proxy.Author{Via: "socket", User: p.user}
	}
	return proxy.Author{Via: "api", ClientAddr: r.RemoteAddr, Name: strings.ToValidUTF8(name[:min(len(name), maxAuthorBytes)], "")}
}
