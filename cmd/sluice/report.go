package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/proxy"
)

func newReport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Print what a running Sluice has observed",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownArgument(args[0])
			}
			return usagef("a report is missing: %s", strings.Join(names(cmd), ", "))
		},
	}
	cmd.AddCommand(newTransactionModeReport())
	return cmd
}

func newTransactionModeReport() *cobra.Command {
	var admin, token string
	cmd := &cobra.Command{
		Use:   "transaction-mode",
		Short: "Say what the clients of the session port would pin on the transaction port",
		Long: "Prints what the session ports have seen, for tenants with observe_transaction_mode: true: statements\n" +
			"that a transaction port would have to ask about, or for which it would keep a backend with one client.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base, err := adminURL(admin)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("token") {
				token = os.Getenv(adminTokenEnv)
			}
			var report proxy.TransactionModeReport
			if err := askAdmin(cmd.Context(), base, token, "api/v1/transaction-mode", &report); err != nil {
				return err
			}
			return printTransactionMode(cmd.OutOrStdout(), report)
		},
	}
	adminFlag(cmd, &admin)
	cmd.Flags().StringVar(&token, "token", "", "admin.token, if there is one (better "+adminTokenEnv+": arguments are visible)")
	return cmd
}

func printTransactionMode(out io.Writer, report proxy.TransactionModeReport) error {
	for i, t := range report.Tenants {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if err := printTenant(out, t); err != nil {
			return err
		}
	}
	return nil
}

func printTenant(out io.Writer, t proxy.TenantObservation) error {
	if !t.Observing || t.Since == nil {
		_, err := fmt.Fprintf(out, "tenant %s is not observed: set its observe_transaction_mode\n", t.Tenant)
		return err
	}
	if _, err := fmt.Fprintf(out, "tenant %s, observed since %s: %s\n", t.Tenant, t.Since.Format(time.RFC3339), summary(t)); err != nil {
		return err
	}
	for _, c := range t.Code {
		_, err := fmt.Fprintf(out, "database %s: any statement may run %s, which may change the session; state_check says what follows\n", shown(c.Database), shown(c.Function))
		if err != nil {
			return err
		}
	}
	if len(t.Effects) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "EFFECT\tREASON\tCOUNT\tDATABASE\tROLE\tAPPLICATION\tSTATEMENT") // Flush returns the error
	for _, e := range t.Effects {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n",
			e.Effect, e.Reason, e.Count, shown(e.Database), shown(e.Role), shown(e.Application), shown(e.Statement))
	}
	return table.Flush()
}

// summary answers the question in one line.
func summary(t proxy.TenantObservation) string {
	var toEnd, pins, asks uint64
	for _, e := range t.Effects {
		switch e.Effect {
		case proxy.PinsToEnd:
			toEnd += e.Count
		case proxy.Pins:
			pins += e.Count
		case proxy.Asks:
			asks += e.Count
		}
	}
	if toEnd+pins+asks+t.Omitted == 0 {
		return fmt.Sprintf("none of %d statements would cost anything on the transaction port", t.Looked)
	}
	text := fmt.Sprintf("of %d statements %d would keep a backend to the session's end on the transaction port, %d while something is held, and %d would cost a question",
		t.Looked, toEnd, pins, asks)
	if t.Omitted > 0 {
		text += fmt.Sprintf("; %d more are not listed, for want of room", t.Omitted)
	}
	return text
}

// shown is what a client has sent, in one line that no terminal minds; empty is a dash.
func shown(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
