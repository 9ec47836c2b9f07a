package datapath

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/bpf"
)

// restoreMost bounds how many entries one collection puts back: in a full map each may evict another one.
const restoreMost = 4096

// Collected is what [Services.Collect] found and changed.
type Collected struct {
	// Flows and Translations are the entries left of lab_ct and lab_nat.
	Flows, Translations int
	// Room is how many each of the maps has room for.
	Room int
	// Expired entries were removed from either.
	Expired int
	// Restored entries were put back into either.
	Restored int
}

// Collect removes flows that are over. When one of the two entries of a live flow was evicted, it puts it back. It is to
// be called every ten seconds or so. Without it old flows stay until new ones evict them, and an evicted entry comes
// back with the next packet that finds the other one.
func (v *Services) Collect(_ context.Context) (c Collected, err error) {
	if err := v.check(); err != nil {
		return c, err
	}
	c.Room = v.d.cfg.BPF.CTMax
	now, seed := monotonicSeconds(), maphash.MakeSeed()
	ct := flowMap{of: v.d.maps.services.ct, other: v.d.maps.services.nat, seed: seed, now: now}
	nat := flowMap{of: ct.other, other: ct.of, answers: true, seed: seed, now: now}
	answers, err := nat.survey(nil)
	if err != nil {
		return c, err
	}
	flows, err := ct.survey(answers.have)
	if err != nil {
		return c, err
	}
	c.Flows, c.Translations = len(flows.have), len(answers.have)
	if answers.wants(flows.have) { // which are they?
		if answers, err = nat.survey(flows.have); err != nil {
			return c, err
		}
	}
	for m, s := range map[*flowMap]*survey{&ct: flows, &nat: answers} {
		for _, t := range s.due {
			if err := forget(m.of, t); err != nil {
				return c, fmt.Errorf("collect flows: remove %s: %w", bpf.AddrPortOf(t.Src, t.Sport), err)
			}
			c.Expired++
		}
		restored, err := m.restore(s.alone)
		c.Restored += restored
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// flowMap is lab_ct or lab_nat, and other is the other one.
type flowMap struct {
	of, other *ebpf.Map
	answers   bool // it is lab_nat
	seed      maphash.Seed
	now       uint32
}

// survey is what a flowMap has. Entries are told by the hashes of their keys.
type survey struct {
	have map[uint64]struct{}
	due  []bpf.Tuple
	// twins are the other entries of live flows; alone are those of them whose twins are not there.
	twins []uint64
	alone []bpf.Tuple
}

// wants says whether a twin is missing.
func (s *survey) wants(have map[uint64]struct{}) bool {
	return slices.ContainsFunc(s.twins, func(t uint64) bool {
		_, ok := have[t]
		return !ok
	})
}

// survey reads the map. Entries without a twin are found only if the survey of the other map is given.
func (m flowMap) survey(others map[uint64]struct{}) (*survey, error) {
	s := &survey{have: map[uint64]struct{}{}}
	err := eachBatch(m.of, func(t bpf.Tuple, e bpf.FlowEntry) {
		// Programs treat an entry as dead one second after it expires; wait one second longer than they do.
		if timeLeft(e.Flow, t.Proto, m.now) < -1 {
			s.due = append(s.due, t)
			return
		}
		s.have[maphash.Comparable(m.seed, t)] = struct{}{}
		if e.Flow.Answered == 0 || isClosed(e.Flow) {
			return
		}
		key, _ := m.twin(t, e)
		twin := maphash.Comparable(m.seed, key)
		s.twins = append(s.twins, twin)
		if _, ok := others[twin]; !ok && others != nil && len(s.alone) < restoreMost {
			s.alone = append(s.alone, t)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("collect flows: %w", err)
	}
	return s, nil
}

// restore puts back the twins of those entries that are still in the map.
func (m flowMap) restore(alone []bpf.Tuple) (restored int, err error) {
	for _, t := range alone {
		var e bpf.FlowEntry
		if err := m.of.Lookup(t, &e); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		} else if err != nil {
			return restored, fmt.Errorf("restore flows: %w", err)
		}
		key, value := m.twin(t, e)
		switch err := m.other.Update(key, value, ebpf.UpdateNoExist); {
		case errors.Is(err, ebpf.ErrKeyExist):
		case err != nil:
			return restored, fmt.Errorf("restore flows: enter %s: %w", bpf.AddrPortOf(key.Src, key.Sport), err)
		default:
			restored++
		}
	}
	return restored, nil
}

// twin is the other entry of the flow that has entry e at t: answer_to and reverse of bpf/lib/ct.h.
func (m flowMap) twin(t bpf.Tuple, e bpf.FlowEntry) (bpf.Tuple, bpf.FlowEntry) {
	key := bpf.Tuple{Src: e.To.Dst, Dst: e.To.Src, Sport: e.To.Dport, Dport: e.To.Sport, Proto: t.Proto}
	switch {
	case !m.answers:
		key.Direction = bpf.PodTupleDirectionTUPLE_BACK
	case e.Flow.Kind != bpf.PodCtKindCT_SERVICE:
		key.Flags = bpf.PodTupleFlagTUPLE_MASQUERADE
	}
	e.To.Src, e.To.Dst, e.To.Sport, e.To.Dport = t.Dst, t.Src, t.Dport, t.Sport
	return key, e
}
