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
	adminURLEnv        = "SLUICE_ADMIN_URL"
	defaultAdminURL    = "http://127.0.0.1:9930"
	healthcheckTimeout = 4 * time.Second // below the image's own
	maxHealthBytes     = 64 << 10        // 64 KiB, some hundred parts
)

// newHealthcheck is for the container, whose image has no other program to ask with.
func newHealthcheck() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:    "healthcheck",
		Short:  "Ask a running Sluice whether it can serve clients",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := url.Parse(admin)
			if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
				return usagef("--admin: must be a URL such as %s", defaultAdminURL)
			}
			return askReady(cmd.Context(), base)
		},
	}
	cmd.Flags().StringVar(&admin, "admin", cmp.Or(os.Getenv(adminURLEnv), defaultAdminURL), "URL of the admin address ("+adminURLEnv+")")
	return cmd
}

// askReady returns nil if /readyz says that new clients can be served.
func askReady(ctx context.Context, base *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("readyz").String(), nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without the proxy of the environment
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var health struct{ State string }
	if json.NewDecoder(io.LimitReader(response.Body, maxHealthBytes)).Decode(&health) != nil || health.State == "" {
		health.State = response.Status
	}
	return fmt.Errorf("healthcheck: %s", health.State)
}
