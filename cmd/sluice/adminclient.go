package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const (
	adminURLEnv     = "SLUICE_ADMIN_URL"
	adminTokenEnv   = "SLUICE_ADMIN_TOKEN"
	defaultAdminURL = "http://127.0.0.1:9930"
	adminTimeout    = 30 * time.Second
	maxAdminBytes   = 16 << 20 // 16 MiB, some ten times the longest report
)

// adminFlag adds --admin to a command that talks to a running Sluice.
func adminFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "admin", cmp.Or(os.Getenv(adminURLEnv), defaultAdminURL), "`URL` of the admin address ("+adminURLEnv+")")
}

// adminURL reads the value of --admin.
func adminURL(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, usagef("--admin: must be a URL such as %s", defaultAdminURL)
	}
	return base, nil
}

// adminClient is a client without the proxy of the environment, which does not follow where it is sent.
func adminClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// askAdmin reads what a running Sluice answers at path into answer.
func askAdmin(ctx context.Context, base *url.URL, token, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath(path).String(), nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", base.Host, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := adminClient().Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", base.Host, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAdminBytes))
	if err != nil {
		return fmt.Errorf("ask %s: %w", base.Host, err)
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("ask %s: --token or %s must be its admin.token", base.Host, adminTokenEnv)
	case response.StatusCode != http.StatusOK:
		var problem struct{ Error string }
		_ = json.Unmarshal(body, &problem) // if it is none, the status says it
		return fmt.Errorf("ask %s: %s", base.Host, cmp.Or(problem.Error, response.Status))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("ask %s: %w", base.Host, err)
	}
	return nil
}
