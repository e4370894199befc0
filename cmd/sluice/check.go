package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCheck() *cobra.Command {
	var s source
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Check a configuration and name every problem with its line and key",
		Long: "Reads the configuration with everything that it refers to, as serve would: the users files and the\n" +
			"certificates. It opens no port and does not connect to PostgreSQL.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.file == "" {
				return usagef("--config: must name a file")
			}
			cfg, err := s.load()
			if err != nil {
				return err
			}
			if err := s.unusable(cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", s.file)
			return err
		},
	}
	cmd.Flags().StringVar(&s.file, "config", "", "the configuration `file`")
	return cmd
}
