package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sluice/internal/config"
)

const databaseURLEnv = "DATABASE_URL"

func newServe(version string) *cobra.Command {
	var file, databaseURL string
	cmd := &cobra.Command{
		Use:   "serve --config FILE | --database-url URL",
		Short: "Run the pooler",
		Long: "Serves clients until SIGTERM or SIGINT, which drain it: sessions end between two transactions, for no longer\n" +
			"than shutdown_timeout; a second one ends it now. SIGHUP reads the configuration again, all or nothing.\n\n" +
			"Without --config and --database-url the database is that of " + databaseURLEnv + ", which other users of the\n" +
			"machine cannot see as they can see arguments.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := cmd.Flags()
			s, err := chooseSource(file, flags.Changed("config"), databaseURL, flags.Changed("database-url"))
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 4) // two to end it, and reloads that come while one runs
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
			defer signal.Stop(signals)
			// What reads the log may go away: the write fails then, and the process lives on.
			broken := make(chan os.Signal, 1)
			signal.Notify(broken, syscall.SIGPIPE)
			defer signal.Stop(broken)
			return serve(cmd.Context(), s, version, cmd.ErrOrStderr(), signals)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the configuration `file`")
	cmd.Flags().StringVar(&databaseURL, "database-url", "", "serve one database without a file: `postgres://role:password@host/database`")
	return cmd
}

// chooseSource says where the configuration comes from, given the flags and whether they were given at all.
func chooseSource(file string, hasFile bool, databaseURL string, hasURL bool) (source, error) {
	switch {
	case hasFile && hasURL:
		return source{}, usagef("--config and --database-url: only one can be given")
	case hasFile && file == "":
		return source{}, usagef("--config: must name a file")
	case hasURL && databaseURL == "":
		return source{}, usagef("--database-url: must be a URL such as postgres://role:password@host/database")
	case hasFile:
		return source{file: file}, nil
	case hasURL:
		return source{url: config.Secret(databaseURL)}, nil
	}
	if databaseURL = os.Getenv(databaseURLEnv); databaseURL == "" {
		return source{}, usagef("--config or --database-url is needed, or the variable %s", databaseURLEnv)
	}
	return source{url: config.Secret(databaseURL)}, nil
}
