package bag_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"sluice/internal/bag"
)

type thing struct{ place int32 }

func (t *thing) Place() *int32 { return &t.place }

// TestBagIsASet compares it with a map, while members come and go, and while they do so under All.
func TestBagIsASet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var b bag.Bag[*thing]
	want := make(map[*thing]bool)
	things := make([]*thing, 50)
	for i := range things {
		things[i] = new(thing)
	}
	change := func() {
		if x := things[random.IntN(len(things))]; want[x] {
			b.Remove(x)
			delete(want, x)
		} else {
			b.Remove(x) // is not in: nothing happens
			b.Add(x)
			want[x] = true
		}
	}
	for range 2000 {
		for range random.IntN(5) {
			change()
		}
		stayed := maps.Clone(want)
		seen := make(map[*thing]bool)
		for x := range b.All() {
			if !want[x] {
				t.Fatal("what is out comes")
			}
			seen[x] = true
			if random.IntN(4) == 0 {
				change()
			}
			for x := range stayed {
				if !want[x] {
					delete(stayed, x)
				}
			}
		}
		for x := range stayed {
			if !seen[x] {
				t.Fatal("what is in does not come")
			}
		}
		if b.Len() != len(want) {
			t.Fatalf("%d are in, want %d", b.Len(), len(want))
		}
	}
	for range b.All() {
		return
	}
	t.Error("nobody comes")
}
