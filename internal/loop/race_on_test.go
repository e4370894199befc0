//go:build race

package loop

// poolLoss is how many allocations for a message the race detector adds: it has a sync.Pool lose things.
const poolLoss = 2
