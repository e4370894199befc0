package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice/auth/scram"
)

const (
	maxPasswordBytes = 8 << 10    // 8 KiB, far more than any driver sends
	maxIterations    = 10_000_000 // some seconds of a core for each login
)

func newHashPassword() *cobra.Command {
	iterations := scram.DefaultIterations
	var likeFile string
	cmd := &cobra.Command{
		Use:   "hash-password",
		Short: "Make a SCRAM verifier of a password",
		Long: "Reads a password from the terminal, twice, or one line from a pipe, and prints its SCRAM-SHA-256 verifier.\n" +
			"That can stand in users_file in place of the password, and in PostgreSQL: ALTER ROLE … PASSWORD 'verifier'.\n" +
			"With --like it has the salt and the iterations of an old verifier: clients can then log in with either password\n" +
			"while both stand in users_file.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if iterations < 1 || iterations > maxIterations {
				return usagef("--iterations: must be between 1 and %d, got %d", maxIterations, iterations)
			}
			password, err := readPassword(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			salt := scram.NewSalt()
			if likeFile != "" {
				if salt, iterations, err = saltOf(likeFile); err != nil {
					return err
				}
			}
			verifier, err := scram.NewVerifier(password, salt, iterations)
			if err != nil {
				return fmt.Errorf("hash password: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), verifier.String())
			return err
		},
	}
	cmd.Flags().IntVar(&iterations, "iterations", iterations, "rounds of hashing, as in PostgreSQL's scram_iterations")
	cmd.Flags().StringVar(&likeFile, "like", "", "take salt and iterations from the verifier in `file`")
	cmd.MarkFlagsMutuallyExclusive("like", "iterations")
	return cmd
}

// saltOf returns salt and iterations of the one verifier that stands in a file, whatever is around it.
func saltOf(path string) (salt []byte, iterations int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, usagef("--like: %v", err)
	}
	defer clear(data)
	found := regexp.MustCompile(`SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+`).FindAll(data, -1)
	if len(found) != 1 {
		return nil, 0, usagef("--like: %s must hold one verifier, and holds %d", path, len(found))
	}
	v, err := scram.ParseVerifier(string(found[0]))
	if err != nil {
		return nil, 0, usagef("--like: %s: %v", path, err)
	}
	return v.Salt, v.Iterations, nil
}

// readPassword asks on a terminal, and reads a line from anything else.
func readPassword(ctx context.Context, in io.Reader, prompt io.Writer) (string, error) {
	var password string
	var err error
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		password, err = askTwice(ctx, int(file.Fd()), prompt)
	} else {
		password, err = readLine(in)
	}
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", usagef("the password is empty")
	case strings.ContainsRune(password, 0):
		return "", usagef("the password holds a zero byte, which PostgreSQL does not take")
	}
	return password, nil
}

func readLine(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxPasswordBytes+1))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	switch {
	case len(data) > maxPasswordBytes:
		return "", usagef("the password is longer than %d bytes", maxPasswordBytes)
	case len(rest) > 0:
		return "", usagef("the input has more than one line")
	}
	return string(bytes.TrimSuffix(line, []byte("\r"))), nil
}

// askTwice reads the password without echo, and again to find slips.
func askTwice(ctx context.Context, terminal int, prompt io.Writer) (string, error) {
	ask := asker{terminal: terminal, prompt: prompt}
	first, err := ask.once(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask.once(ctx, "Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", usagef("the passwords differ")
	}
	return first, nil
}

// errInterrupted is a user who gives up.
var errInterrupted = errors.New("interrupted")

type asker struct {
	terminal int
	prompt   io.Writer
}

// once asks one question. A signal that arrives meanwhile must not leave a terminal without echo; the read that it
// interrupts cannot be taken back and ends with the process.
func (a asker) once(ctx context.Context, question string) (string, error) {
	before, err := term.GetState(a.terminal)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	if _, err := fmt.Fprint(a.prompt, question); err != nil {
		return "", err
	}
	answer := make(chan string, 1)
	failed := make(chan error, 1)
	go a.read(answer, failed)
	defer func() { _, _ = fmt.Fprintln(a.prompt) }()
	select {
	case text := <-answer:
		return text, nil
	case err := <-failed:
		return "", fmt.Errorf("read password: %w", err)
	case <-ctx.Done():
		return "", errors.Join(errInterrupted, term.Restore(a.terminal, before))
	}
}

func (a asker) read(answer chan<- string, failed chan<- error) {
	text, err := term.ReadPassword(a.terminal)
	if err != nil {
		failed <- err
		return
	}
	answer <- string(text)
}
