package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/proxy"
)

func newBans() *cobra.Command {
	client := &adminClient{}
	cmd := &cobra.Command{
		Use:   "bans list|clear",
		Short: "List or clear the addresses that a running Sluice has banned because of failed logins",
		RunE:  commandsOnly,
	}
	client.flags(cmd)
	cmd.AddCommand(newBansList(client), newBansClear(client))
	return cmd
}

func newBansList(client *adminClient) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the bans, those that end first in front",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct{ Bans []proxy.Ban }
			if err := client.call(cmd.Context(), http.MethodGet, "bans", nil, &answer); err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(answer.Bans)
			}
			return writeBans(cmd.OutOrStdout(), answer.Bans)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// writeBans writes a table.
func writeBans(w io.Writer, bans []proxy.Ban) error {
	if len(bans) == 0 {
		_, err := fmt.Fprintln(w, "no address is banned")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "TENANT\tNETWORK\tENDS\tREASON") // Flush tells
	for _, b := range bans {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", word(b.Tenant), b.Network, b.Until.UTC().Format(time.RFC3339), b.Reason)
	}
	return table.Flush()
}

func newBansClear(client *adminClient) *cobra.Command {
	var tenant string
	var all bool
	cmd := &cobra.Command{
		Use:   "clear NETWORK|--all",
		Short: "End the ban of an address, or the bans within a network",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return unknownArgument(args[1])
			case len(args) == 0 && !all:
				return usagef("an address or a network is missing, or --all")
			case len(args) == 1 && all:
				return usagef("--all: there is an address or a network as well")
			}
			request := map[string]any{"tenant": tenant, "network": strings.Join(args, ""), "all": all}
			var answer struct{ Cleared int }
			if err := client.call(cmd.Context(), http.MethodPost, "bans/clear", request, &answer); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d cleared\n", answer.Cleared)
			return err
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant only")
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	return cmd
}
