//go:build !race

package loop

// poolLoss is how many allocations for a message the race detector adds.
const poolLoss = 0
