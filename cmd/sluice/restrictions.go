package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/config"
)

// restrictionRequest is what the API is asked for.
type restrictionRequest struct {
	IPv4            []string `json:"dbAllowedCidrs"`
	IPv6            []string `json:"dbAllowedCidrsV6"`
	AllowNobody     bool     `json:"allowNobody,omitempty"`
	AllowSelfCutoff bool     `json:"allowSelfCutoff,omitempty"`
	ConfirmWithin   string   `json:"confirmWithin,omitempty"`
}

// restrictionsAnswer is what it says of a tenant's networks.
type restrictionsAnswer struct {
	Tenant    string `json:"tenant"`
	ManagedBy string `json:"managed_by"`
	Config    struct {
		Entries []struct {
			CIDR    string     `json:"cidr"`
			Until   *time.Time `json:"until"`
			Comment string     `json:"comment"`
		} `json:"entries"`
	} `json:"config"`
	OldConfig struct {
		IPv4 []string `json:"dbAllowedCidrs"`
		IPv6 []string `json:"dbAllowedCidrsV6"`
	} `json:"old_config"`
	UpdatedAt *time.Time `json:"updated_at"`
	UpdatedBy string     `json:"updated_by"`
	ConfirmBy *time.Time `json:"confirm_by"`
}

// planAnswer is whom a change would cut off.
type planAnswer struct {
	Sessions     int       `json:"sessions"`
	Connected    []planRow `json:"connected"`
	Absent       int       `json:"absent"`
	History      []planRow `json:"history"`
	HistorySince time.Time `json:"history_since"`
	SelfCutoff   bool      `json:"self_cutoff"`
}

type planRow struct {
	Role     string    `json:"role"`
	Database string    `json:"database"`
	Mode     string    `json:"mode"`
	Network  string    `json:"network"`
	Sessions int       `json:"sessions"`
	LastSeen time.Time `json:"last_seen"`
}

func newNetworkRestrictions() *cobra.Command {
	client := &adminClient{}
	cmd := &cobra.Command{
		Use:   "network-restrictions get|plan|update",
		Short: "Say from where a running Sluice can be reached",
		RunE:  commandsOnly,
	}
	client.tenantFlags(cmd)
	cmd.AddCommand(restrictionsGet(client), restrictionsPlan(client), restrictionsUpdate(client))
	return cmd
}

func restrictionsGet(client *adminClient) *cobra.Command {
	return &cobra.Command{
		Use:   "get",
		Short: "Print the networks from which a tenant can be reached",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer restrictionsAnswer
			if err := client.call(cmd.Context(), http.MethodGet, "network-restrictions", nil, &answer); err != nil {
				return err
			}
			return answer.print(cmd.OutOrStdout())
		},
	}
}

func restrictionsPlan(client *adminClient) *cobra.Command {
	var lists []string
	var request restrictionRequest
	cmd := &cobra.Command{
		Use:   "plan --db-allow-cidr CIDR …",
		Short: "Print whom an update would cut off, and change nothing",
		Long: "Prints who is connected now, and who has been before, by role and network, that can reach the\n" +
			"tenant now and could not after such an update.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := request.allow(append(lists, args...)); err != nil {
				return err
			}
			var answer planAnswer
			if err := client.call(cmd.Context(), http.MethodPost, "network-restrictions/plan", request, &answer); err != nil {
				return err
			}
			return answer.print(cmd.OutOrStdout())
		},
	}
	allowFlags(cmd, &lists, &request)
	return cmd
}

func restrictionsUpdate(client *adminClient) *cobra.Command {
	var lists []string
	var request restrictionRequest
	var within time.Duration
	var confirm bool
	cmd := &cobra.Command{
		Use:   "update --db-allow-cidr CIDR … [--confirm-within 2m] | --confirm",
		Short: "Replace the networks from which a tenant can be reached",
		Long: "The networks that are given replace those that count. Sessions from elsewhere end between two transactions.\n" +
			"With --confirm-within the change goes back by itself, also over a restart, unless --confirm follows in time.",
		RunE: func(cmd *cobra.Command, args []string) error {
			method, path, body := http.MethodPost, "network-restrictions/apply", any(&request)
			lists = append(lists, args...)
			switch {
			case confirm && (len(lists) > 0 || request.AllowNobody || request.AllowSelfCutoff || cmd.Flags().Changed("confirm-within")):
				return usagef("--confirm: goes alone")
			case confirm:
				path, body = "network-restrictions/confirm", nil
			case cmd.Flags().Changed("confirm-within") && within < time.Second:
				return usagef("--confirm-within: must be at least 1s")
			default:
				if within > 0 {
					request.ConfirmWithin = within.String()
				}
				if err := request.allow(lists); err != nil {
					return err
				}
			}
			var answer restrictionsAnswer
			if err := client.call(cmd.Context(), method, path, body, &answer); err != nil {
				return err
			}
			return answer.print(cmd.OutOrStdout())
		},
	}
	allowFlags(cmd, &lists, &request)
	cmd.Flags().BoolVar(&request.AllowSelfCutoff, "allow-self-cutoff", false, "the address of this machine may be shut out")
	cmd.Flags().DurationVar(&within, "confirm-within", 0, "go back after this `time` unless --confirm follows")
	cmd.Flags().BoolVar(&confirm, "confirm", false, "keep what --confirm-within would take back")
	return cmd
}

func allowFlags(cmd *cobra.Command, lists *[]string, request *restrictionRequest) {
	cmd.Flags().StringArrayVar(lists, "db-allow-cidr", nil, "a network, or several with commas; \"until TIME\" and \"# comment\" may follow one `CIDR`")
	cmd.Flags().BoolVar(&request.AllowNobody, "allow-nobody", false, "no network is given, and that is meant")
}

// allow fills in the lists from what was given. Errors: *usageError.
func (r *restrictionRequest) allow(given []string) error {
	r.IPv4, r.IPv6 = []string{}, []string{}
	for _, text := range given {
		entries := []string{text}
		if !strings.Contains(text, "#") {
			entries = strings.Split(text, ",")
		}
		for _, entry := range entries {
			e, err := config.ParseEntry(entry)
			switch {
			case err != nil:
				return usagef("--db-allow-cidr: %w, got %.80q", err, entry)
			case e.Prefix.Addr().Is4():
				r.IPv4 = append(r.IPv4, e.String())
			default:
				r.IPv6 = append(r.IPv6, e.String())
			}
		}
	}
	if len(r.IPv4)+len(r.IPv6) == 0 && !r.AllowNobody {
		return usagef("--db-allow-cidr: at least one network is needed, or --allow-nobody")
	}
	return nil
}

// print writes the networks, one a line.
func (a *restrictionsAnswer) print(w io.Writer) error {
	var b strings.Builder
	rules := "the configuration rules"
	if a.ManagedBy == "api" {
		rules = "the API rules"
	}
	fmt.Fprintf(&b, "tenant %s can be reached from (%s)\n", word(a.Tenant), rules)
	for _, e := range a.Config.Entries {
		b.WriteString("  " + plain(e.CIDR))
		if e.Until != nil {
			b.WriteString(" until " + e.Until.Format(time.RFC3339))
		}
		if e.Comment != "" {
			b.WriteString(" # " + plain(e.Comment))
		}
		b.WriteByte('\n')
	}
	if len(a.Config.Entries) == 0 {
		b.WriteString("  nowhere\n")
	}
	if a.UpdatedAt != nil {
		fmt.Fprintf(&b, "changed %s by %s\n", a.UpdatedAt.Format(time.RFC3339), plain(a.UpdatedBy))
	}
	if a.ConfirmBy != nil {
		old := strings.Join(append(a.OldConfig.IPv4, a.OldConfig.IPv6...), " ")
		if old == "" {
			old = "nowhere"
		}
		fmt.Fprintf(&b, "goes back at %s to %s, unless confirmed: sluice network-restrictions update --confirm\n",
			a.ConfirmBy.Format(time.RFC3339), plain(old))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// print writes both lists.
func (a *planAnswer) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(r planRow, last any) {
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%v\n", word(r.Role), word(r.Database), word(r.Mode), word(r.Network), last) // Flush tells
	}
	_, _ = fmt.Fprintf(t, "connected now, would be cut off: %d sessions\n", a.Sessions)
	if len(a.Connected) > 0 {
		_, _ = fmt.Fprintln(t, "  ROLE\tDATABASE\tMODE\tNETWORK\tSESSIONS")
	}
	for _, r := range a.Connected {
		row(r, r.Sessions)
	}
	_, _ = fmt.Fprintf(t, "seen since %s, not connected now, would be refused: %d\n", a.HistorySince.Format(time.RFC3339), a.Absent)
	if len(a.History) > 0 {
		_, _ = fmt.Fprintln(t, "  ROLE\tDATABASE\tMODE\tNETWORK\tLAST SEEN")
	}
	for _, r := range a.History {
		row(r, r.LastSeen.Format(time.RFC3339))
	}
	if a.SelfCutoff {
		_, _ = fmt.Fprintln(t, "the address that this was asked from would be shut out: update refuses that without --allow-self-cutoff")
	}
	return t.Flush()
}
