package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

const (
	healthcheckTimeout = 4 * time.Second // below the image's own
	maxHealthBytes     = 64 << 10        // 64 KiB, some hundred parts
)

// newHealthcheck is for the container, whose image has no other program to ask with.
func newHealthcheck() *cobra.Command {
	var admin adminAddress
	cmd := &cobra.Command{
		Use:    "healthcheck",
		Short:  "Ask a running Sluice whether it can serve clients",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := admin.base()
			if err != nil {
				return err
			}
			client, err := admin.client()
			if err != nil {
				return err
			}
			return askReady(cmd.Context(), client, base)
		},
	}
	admin.flags(cmd)
	return cmd
}

// askReady returns nil if /readyz says that new clients can be served.
func askReady(ctx context.Context, client *http.Client, base *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("readyz").String(), nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
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
