package simulation

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "seed of the simulation; 0: new ones for each run")
	stepsFlag = flag.Int("sim.steps", 1500, "units of work of a simulation")
	runsFlag  = flag.Int("sim.runs", 3, "simulations with consecutive seeds")
	tell      = flag.Bool("sim.journal", false, "print the journal of a simulation that fails")
)

// TestSimulation plays new stories. `go test ./test/simulation -run TestSimulation -sim.seed N -sim.runs 1` plays one
// again.
func TestSimulation(t *testing.T) {
	first := *seedFlag
	if first == 0 {
		first = rand.Uint64()>>16 + 1
	}
	for i := range *runsFlag {
		simulate(t, first+uint64(i), *stepsFlag)
	}
}

// TestRegressionSeeds plays stories that once went wrong: with a COPY that was not understood, state that could not
// be carried, a message whose end was another's beginning, a name that meant something else after an error.
func TestRegressionSeeds(t *testing.T) {
	for _, seed := range []uint64{3, 15, 8, 30032, 9, 19, 5, 10, 1, 17} {
		simulate(t, seed, *stepsFlag)
	}
}

func simulate(t *testing.T, seed uint64, steps int) {
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		t.Logf("-sim.seed=%d -sim.steps=%d", seed, steps)
		synctest.Test(t, func(t *testing.T) {
			var j *journal
			if *tell {
				j = newJournal()
			}
			w := newWorld(t, seed, steps, j)
			w.run()
			t.Logf("%s of simulated time; what happened:%s", w.since(), &w.outcomes)
			if t.Failed() && j != nil {
				t.Logf("journal:\n%s", j)
			}
		})
	})
}
