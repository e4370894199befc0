package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sluice/internal/config"
	"sluice/proxy"
)

func newCheck() *cobra.Command {
	var s source
	var live bool
	cmd := &cobra.Command{
		Use:   "check --config FILE [--live]",
		Short: "Check a configuration and name every problem with its line and key",
		Long: "Reads the configuration with everything that it refers to, as serve would: the users files and the\n" +
			"certificates, and says what is off, and which certificates are not valid now, or soon will not be. It opens no\n" +
			"port, and connects to PostgreSQL only with --live: then it says how many backends the pools can have at worst,\n" +
			"and whether PostgreSQL has room for them.",
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
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", s.file); err != nil {
				return err
			}
			for _, note := range notes(cfg) {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", s.file, note); err != nil {
					return err
				}
			}
			if !live {
				return nil
			}
			return s.checkLive(cmd.Context(), cmd.OutOrStdout(), cfg)
		},
	}
	cmd.Flags().StringVar(&s.file, "config", "", "the configuration `file`")
	cmd.Flags().BoolVar(&live, "live", false, "ask PostgreSQL, with the service login, and compare")
	return cmd
}

// notes returns what works less well than it could with cfg, which is not unusable.
func notes(cfg *config.Config) []string {
	all := proxy.Notes(cfg)
	if cert, err := adminCertificate(cfg.Admin); err == nil && cert != nil {
		for _, w := range cert.Warnings(time.Now()) {
			all = append(all, "admin: "+w.Error())
		}
	}
	return all
}
