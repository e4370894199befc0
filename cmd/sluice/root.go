package main

import (
	"context"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"sluice/internal/spelling"
)

// streams are what a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// run runs one command line, without the program's name, and returns the exit code. What went wrong is on s.err.
func run(ctx context.Context, s streams, version string, args []string) int {
	root := newRoot(version)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetArgs(args)
	err := execute(ctx, root, args)
	report(s.err, err)
	return exitCode(err)
}

func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Sluice, a connection pooler and access-control proxy for PostgreSQL",
		Long: "Sluice stands between applications and PostgreSQL: it lends them its backends, per session or per\n" +
			"transaction, and decides who may connect.",
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("a command is missing, one of %s; sluice --help says more", strings.Join(names(cmd), ", "))
		},
	}
	root.SetVersionTemplate("sluice {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef("%w%s", err, meantFlag(cmd, err)) })
	root.DisableSuggestions = true // they take several lines
	root.AddCommand(newServe(version), newDemo(version), newCheck(), newDoctor(), newHashPassword(), newReport(), newNetworkRestrictions(), newSSLEnforcement(), newBans(), newVersion(version), newHealthcheck())
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	return root
}

// execute finds the command before anything looks at its flags, so that the error of a wrong name is about the name.
func execute(ctx context.Context, root *cobra.Command, args []string) error {
	if _, _, err := root.Find(args); err != nil {
		return usagef("%w%s", err, meantCommand(root, args[0]))
	}
	return root.ExecuteContext(ctx)
}

// names returns the commands that are not hidden.
func names(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say how a command is used",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return usagef("%w%s", err, meantCommand(cmd.Root(), args[0]))
			case len(rest) > 0:
				return unknownArgument(rest[0])
			}
			return about.Help()
		},
	}
}

// meantCommand returns the end of an error about a command that there is not below parent: those that may be meant.
func meantCommand(parent *cobra.Command, name string) string {
	parent.SuggestionsMinimumDistance = 2
	near := parent.SuggestionsFor(name)
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// meantFlag returns the end of an error about flags: if it is about one that there is not, the one that may be meant.
func meantFlag(cmd *cobra.Command, err error) string {
	flag, unknown := strings.CutPrefix(err.Error(), "unknown flag: ")
	if !unknown {
		return ""
	}
	var known []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--\S+)`).FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		known = append(known, m[1])
	}
	return spelling.Hint(flag, known)
}

// noArguments refuses what is not a flag.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownArgument(args[0])
	}
	return nil
}

func unknownArgument(text string) error { return usagef("unknown argument %q", text) }
