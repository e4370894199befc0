package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/doctor"
)

// doctorTimeout is the default of --timeout: each Postgres has its own, shorter ones.
const doctorTimeout = 2 * time.Minute

func newDoctor() *cobra.Command {
	var file, databaseURL string
	var roles []string
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor --config FILE | --database-url URL",
		Short: "Say which logins can work, and why others cannot",
		Long: "Reads the configuration as serve would, opens no port, and connects to PostgreSQL as each role that the configuration and its\n" +
			"users files name could: what each listener asks of clients, whether Sluice can then log in, certificates towards clients and of\n" +
			"PostgreSQL, whether the pools fit into max_connections, and what the service login may not ask, with the SQL that lets it.\n" +
			"Nothing is changed, no secret is printed, and no failed login is caused by a role of which only the verifier is known.\n\n" +
			"Exit codes: 0 all is well, perhaps with warnings; 1 there is a problem; 2 the configuration or the arguments are wrong.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := chooseSource(file, cmd.Flags().Changed("config"), databaseURL, cmd.Flags().Changed("database-url"))
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			report, err := s.examine(ctx, roles)
			if err != nil {
				return err
			}
			write := report.WriteText
			if asJSON {
				write = report.WriteJSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if n := report.Count(doctor.Problem); n > 0 {
				return fmt.Errorf("doctor: problems found: %d", n)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the configuration `file`")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "one database without a file, better in "+databaseURLEnv)
	cmd.Flags().StringArrayVar(&roles, "role", nil, "look at this `role` as well")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().DurationVar(&timeout, "timeout", doctorTimeout, "give up after this `time`")
	return cmd
}

// examine has the doctor look at the configuration. Errors: *config.Error, *unusableError.
func (s source) examine(ctx context.Context, roles []string) (*doctor.Report, error) {
	cfg, err := s.load()
	if err != nil {
		return nil, err
	}
	if err := s.unusable(cfg); err != nil {
		return nil, err
	}
	return doctor.Examine(ctx, doctor.Params{Config: cfg, Roles: roles})
}
