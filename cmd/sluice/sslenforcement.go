package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// encryptionRequest and encryptionAnswer are what the API takes and says.
type encryptionRequest struct {
	Requested encryptionConfig `json:"requestedConfig"`
}

type encryptionAnswer struct {
	Current   encryptionConfig `json:"currentConfig"`
	Applied   bool             `json:"appliedSuccessfully"`
	Tenant    string           `json:"tenant"`
	ManagedBy string           `json:"managed_by"`
}

type encryptionConfig struct {
	Database bool `json:"database"`
}

func newSSLEnforcement() *cobra.Command {
	client := &adminClient{}
	cmd := &cobra.Command{
		Use:   "ssl-enforcement get|update",
		Short: "Say whether a running Sluice refuses clients without TLS",
		RunE:  commandsOnly,
	}
	client.tenantFlags(cmd)
	get := &cobra.Command{
		Use:   "get",
		Short: "Print whether a tenant refuses clients without TLS",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return client.encryption(cmd, http.MethodGet, nil) },
	}
	var enable, disable bool
	update := &cobra.Command{
		Use:   "update --enable-db-ssl-enforcement | --disable-db-ssl-enforcement",
		Short: "Have a tenant refuse clients without TLS, or not; sessions without end between two transactions",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if enable == disable {
				return usagef("--enable-db-ssl-enforcement or --disable-db-ssl-enforcement: one of them is needed")
			}
			return client.encryption(cmd, http.MethodPut, encryptionRequest{encryptionConfig{enable}})
		},
	}
	update.Flags().BoolVar(&enable, "enable-db-ssl-enforcement", false, "refuse clients without TLS")
	update.Flags().BoolVar(&disable, "disable-db-ssl-enforcement", false, "take them")
	cmd.AddCommand(get, update)
	return cmd
}

// encryption asks, and prints the answer.
func (c *adminClient) encryption(cmd *cobra.Command, method string, body any) error {
	var answer encryptionAnswer
	if err := c.call(cmd.Context(), method, "ssl-enforcement", body, &answer); err != nil {
		return err
	}
	takes, rules := "takes clients without TLS", "the configuration rules"
	if answer.Current.Database {
		takes = "refuses clients without TLS"
	}
	if answer.ManagedBy == "api" {
		rules = "the API rules"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "tenant %s %s (%s)\n", word(answer.Tenant), takes, rules)
	return err
}
