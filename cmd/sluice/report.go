package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/proxy"
)

func newReport() *cobra.Command {
	client := &adminClient{}
	cmd := &cobra.Command{
		Use:   "report transaction-mode|tls",
		Short: "Print what a running Sluice has observed",
		RunE:  commandsOnly,
	}
	client.flags(cmd)
	cmd.AddCommand(newTransactionModeReport(client), newTLSReport(client))
	return cmd
}

func newTransactionModeReport(client *adminClient) *cobra.Command {
	return &cobra.Command{
		Use:   "transaction-mode",
		Short: "Say what the clients of the session port would pin on the transaction port",
		Long: "Prints what the session ports have seen, for tenants with observe_transaction_mode: true: statements\n" +
			"that a transaction port would have to ask about, or for which it would keep a backend with one client.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report proxy.TransactionModeReport
			if err := client.call(cmd.Context(), http.MethodGet, "transaction-mode", nil, &report); err != nil {
				return err
			}
			return printTransactionMode(cmd.OutOrStdout(), report)
		},
	}
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
