package datapath

import (
	"encoding/binary"
	"reflect"
	"testing"
	"time"

	"wirelab.dev/wirelab/bpf"
)

// Records are read as the fields of their types say, and none that is too short.
func TestDecode(t *testing.T) {
	decodes(t, decode[bpf.EventHeader])
	decodes(t, decode[bpf.Event])
	decodes(t, decode[bpf.Step])
}

func decodes[T any](t *testing.T, decode func([]byte) (T, error)) {
	t.Helper()
	var want T
	record := make([]byte, binary.Size(want)+3) // and some of a frame
	for i := range record {
		record[i] = byte(i % 2) // what every type of a field can be
	}
	if _, err := binary.Decode(record, binary.NativeEndian, &want); err != nil {
		t.Fatal(err)
	}
	got, err := decode(record)
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		field := reflect.TypeFor[T]().Field(i)
		if field.Name == "_" { // binary.Decode leaves out what only fills
			continue
		}
		is, shall := reflect.ValueOf(got).Field(i).Interface(), reflect.ValueOf(want).Field(i).Interface()
		if !reflect.DeepEqual(is, shall) {
			t.Errorf("%T: %s is %v, want %v", want, field.Name, is, shall)
		}
	}
	if got, err := decode(record[:binary.Size(want)-1]); err == nil {
		t.Errorf("of a record that is too short came %+v", got)
	}
}

// An age as short as a tick of the clock is none: the clock may have ticked between two packets that follow each other at once.
func TestFlowAge(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{0: 0, 4 * time.Millisecond: 0, 10 * time.Millisecond: 0, 12 * time.Millisecond: 12 * time.Millisecond, time.Hour: time.Hour} {
		if got := flowAge(uint64(age)); got != want {
			t.Errorf("%s is told as %s, want %s", age, got, want)
		}
	}
}
