package pool

import (
	"reflect"
	"testing"
	"time"
)

// TestAddAddsEverything fills all that is counted and adds it: a field that Add forgets stays as it was.
func TestAddAddsEverything(t *testing.T) {
	t.Parallel()
	var part Stats
	fill(reflect.ValueOf(&part).Elem())
	sum := Stats{Key: part.Key, Limits: part.Limits, Traffic: part.Traffic.Clone()}
	sum.Traffic.MaxClients = part.Traffic.MaxClients
	sum.Parts, sum.Idle, sum.Active, sum.Pinned, sum.Login, sum.Closing, sum.Waiting = 1, 1, 1, 1, 1, 1, 1
	sum.Add(&part)
	want := map[string]bool{"Stats.Key": true, "Stats.Limits": true, "Stats.Traffic.MaxClients": true}
	check(t, "Stats", reflect.ValueOf(sum), want)
}

// fill sets every number to 1, durations to a second, and every map to one entry.
func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(time.Second))
	case v.CanInt():
		v.SetInt(1)
	case v.CanUint():
		v.SetUint(1)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case v.Kind() == reflect.Map:
		entry := reflect.New(v.Type().Elem()).Elem()
		fill(entry)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), entry)
	}
}

// check reports what is not 2 after 1 was added to 1.
func check(t *testing.T, name string, v reflect.Value, skip map[string]bool) {
	t.Helper()
	switch {
	case skip[name]:
	case name == "Stats.OldestWait":
		if v.Int() != int64(time.Second) {
			t.Errorf("%s is %v, want the longer one", name, v)
		}
	case v.Type() == reflect.TypeFor[time.Duration]():
		if v.Int() != int64(2*time.Second) {
			t.Errorf("%s is %v", name, v)
		}
	case v.CanInt():
		if v.Int() != 2 {
			t.Errorf("%s is %d", name, v.Int())
		}
	case v.CanUint():
		if v.Uint() != 2 {
			t.Errorf("%s is %d", name, v.Uint())
		}
	case v.Kind() == reflect.Bool:
		if !v.Bool() {
			t.Errorf("%s is lost", name)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			check(t, name+"."+v.Type().Field(i).Name, v.Field(i), skip)
		}
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			check(t, name, v.Index(i), skip)
		}
	case v.Kind() == reflect.Map:
		check(t, name, v.MapIndex(reflect.ValueOf("x")), skip)
	}
}
