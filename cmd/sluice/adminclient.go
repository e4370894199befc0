package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"sluice/internal/tlsconf"
)

const (
	adminURLEnv     = "SLUICE_ADMIN_URL"
	adminTokenEnv   = "SLUICE_ADMIN_TOKEN"
	adminCAEnv      = "SLUICE_ADMIN_CA"
	defaultAdminURL = "http://127.0.0.1:9930"
	adminTimeout    = 60 * time.Second
	maxAnswerBytes  = 64 << 20 // 64 MiB: as many networks as a list may have
)

// adminAddress is where a running Sluice answers operators.
type adminAddress struct {
	url string // or unix:PATH
	ca  string // file of authorities that its certificate is verified by; empty: those of the system
}

// flags adds --admin and --admin-ca to a command that talks to a running Sluice, and to those below it.
func (a *adminAddress) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.url, "admin", cmp.Or(os.Getenv(adminURLEnv), defaultAdminURL), "`URL` of the admin address, or unix:PATH for admin.socket ("+adminURLEnv+")")
	flags.StringVar(&a.ca, "admin-ca", os.Getenv(adminCAEnv), "`file` with the authorities of its certificate, PEM, instead of the system's ("+adminCAEnv+")")
}

// socket returns the path of the Unix socket; ok is false if it is a URL.
func (a *adminAddress) socket() (path string, ok bool) {
	path, ok = strings.CutPrefix(a.url, "unix:")
	return strings.TrimPrefix(path, "//"), ok // as in a URL
}

// String returns the address for errors.
func (a *adminAddress) String() string {
	if path, ok := a.socket(); ok {
		return path
	}
	base, err := a.base()
	if err != nil {
		return a.url
	}
	return base.Host
}

// base returns the URL to ask; that of a socket has a host that means nothing.
func (a *adminAddress) base() (*url.URL, error) {
	if path, ok := a.socket(); ok {
		if path == "" {
			return nil, usagef("--admin: unix: must be followed by the path of admin.socket")
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, nil
	}
	base, err := url.Parse(a.url)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, usagef("--admin: must be a URL such as %s, or unix:PATH", defaultAdminURL)
	}
	return base, nil
}

// client returns one without the proxy of the environment, which does not follow where it is sent. Errors: *usageError if
// the authorities cannot be read.
func (a *adminAddress) client() (*http.Client, error) {
	config := tlsconf.Base()
	if a.ca != "" {
		var err error
		if config.RootCAs, err = tlsconf.Pool(a.ca); err != nil {
			return nil, usagef("--admin-ca: %w", err)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}
	if path, ok := a.socket(); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// adminClient asks a running Sluice.
type adminClient struct {
	adminAddress
	token, tenant string
}

// flags adds those that say whom to ask.
func (c *adminClient) flags(cmd *cobra.Command) {
	c.adminAddress.flags(cmd)
	cmd.PersistentFlags().StringVar(&c.token, "token", "", "admin.token; better in "+adminTokenEnv+", since arguments are visible")
}

// tenantFlags adds flags, and the one that says about which tenant to ask.
func (c *adminClient) tenantFlags(cmd *cobra.Command) {
	c.flags(cmd)
	cmd.PersistentFlags().StringVar(&c.tenant, "tenant", "", "`name` of the tenant; not needed if there is only one")
}

// call sends a request with body, nil for none, and reads the answer into view.
//
// Errors: *usageError if the arguments are to blame; else with the host.
func (c *adminClient) call(ctx context.Context, method, path string, body, view any) error {
	base, err := c.safeBase()
	if err != nil {
		return err
	}
	err = c.ask(ctx, method, base.JoinPath("api/v1", path), body, view)
	if _, ok := errors.AsType[*usageError](err); err == nil || ok {
		return err
	}
	return fmt.Errorf("ask %s: %w", &c.adminAddress, err)
}

// safeBase returns the URL to ask. The token is not sent to other machines in clear.
func (c *adminClient) safeBase() (*url.URL, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	addr, _ := netip.ParseAddr(base.Hostname())
	if base.Scheme == "http" && base.Hostname() != "localhost" && !addr.Unmap().IsLoopback() {
		return nil, usagef("--admin: must begin with https, as the token would go to another machine in clear")
	}
	return base, nil
}

// ask is call to a URL.
func (c *adminClient) ask(ctx context.Context, method string, to *url.URL, body, view any) error {
	if c.tenant != "" {
		to.RawQuery = url.Values{"tenant": {c.tenant}}.Encode()
	}
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, to.String(), content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if token := cmp.Or(c.token, os.Getenv(adminTokenEnv)); token != "" { // a socket does without
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if who, err := user.Current(); err == nil {
		request.Header.Set("Sluice-Author", who.Username)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return read(response, view)
}

// read takes an answer apart.
func read(response *http.Response, view any) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	if response.StatusCode >= 200 && response.StatusCode <= 299 {
		return json.Unmarshal(data, view)
	}
	var problem struct{ Error string }
	_ = json.Unmarshal(data, &problem) // if it is none, the status says it
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("--token or %s must be its admin.token", adminTokenEnv)
	case problem.Error == "":
		return errors.New(response.Status)
	case response.StatusCode == http.StatusBadRequest, response.StatusCode == http.StatusNotFound:
		return usagef("%s", plain(problem.Error))
	}
	return errors.New(plain(problem.Error))
}

// plain returns text as a terminal may be shown it: in one line and without anything that it would obey.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// word returns text for a column: in quotes if it would not be one word.
func word(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == '"' }) {
		return strconv.Quote(text)
	}
	return text
}

// commandsOnly is what a command does that only has others below it.
func commandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), meantCommand(cmd, args[0]))
	}
	return usagef("a command is missing, one of %s; sluice %s --help says more", strings.Join(names(cmd), ", "), cmd.Name())
}
