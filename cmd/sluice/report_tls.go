package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/proxy"
)

func newTLSReport(client *adminClient) *cobra.Command {
	return &cobra.Command{
		Use:   "tls",
		Short: "Say who logs in without TLS, and with which TLS the others do",
		Long: "Prints which clients tls_enforcement: enforce would refuse: logins over TCP without TLS since Sluice was\n" +
			"started, by role, database, application and network. Of the others it prints the TLS version and the\n" +
			"cipher suite, for whoever thinks of tls.min_version.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report proxy.TLSReport
			if err := client.call(cmd.Context(), http.MethodGet, "tls-logins", nil, &report); err != nil {
				return err
			}
			for i, t := range report.Tenants {
				if err := printTenantTLS(cmd.OutOrStdout(), t, i > 0); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// printTenantTLS writes two tables, of which either may be left out.
func printTenantTLS(out io.Writer, t proxy.TenantTLS, apart bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) // Flush returns the errors
	if apart {
		_, _ = fmt.Fprintln(w)
	}
	_, _ = fmt.Fprintf(w, "tenant %s (tls_enforcement: %s), since %s: %d logins without TLS, %d with\n",
		word(t.Tenant), word(t.Stage), t.Since.Format(time.RFC3339), t.PlainLogins, t.TLSLogins)
	if len(t.Plain) > 0 {
		_, _ = fmt.Fprintln(w, "WITHOUT TLS\tLAST SEEN\tROLE\tDATABASE\tAPPLICATION\tNETWORK\tSTAGE")
	}
	for _, p := range t.Plain {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n",
			p.Count, p.LastSeen.Format(time.RFC3339), word(p.Role), word(p.Database), word(p.Application), word(p.Network), word(p.Stage))
	}
	if len(t.TLS) > 0 {
		_, _ = fmt.Fprintln(w, "WITH TLS\tLAST SEEN\tROLE\tVERSION\tCIPHER")
	}
	for _, s := range t.TLS {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.Count, s.LastSeen.Format(time.RFC3339), word(s.Role), plain(s.Version), plain(s.Cipher))
	}
	return w.Flush()
}
