// Command sluice stands between applications and Postgres: it runs the pooler, its demo, and what belongs to them.
package main

import (
	"context"
	"os"
)

// version is set by the linker; see deploy/build.sh.
var version string

func main() {
	os.Exit(run(context.Background(), streams{os.Stdin, os.Stdout, os.Stderr}, buildVersion(version), os.Args[1:]))
}
