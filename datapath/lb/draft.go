package lb

import (
	"slices"

	"wirelab.dev/wirelab/bpf"
)

// draft are the entries made for a Service before it is known whether all of them fit.
type draft struct {
	*plan
	id       uint32
	had      int // lists that the Service has
	backends []uint32
	lists    []uint32
	rowsOf   []run // that were free
	fresh    []backendName
}

func (p *plan) draft(id uint32) *draft { return &draft{plan: p, id: id, had: len(p.listsOf[id])} }

// undo removes them.
func (d *draft) undo() {
	for _, id := range d.backends {
		delete(d.want.backends, id)
	}
	for _, name := range d.fresh {
		d.free.backends.give(run{d.known[name], 1})
		delete(d.known, name)
	}
	for _, first := range d.lists {
		delete(d.want.lists, first)
	}
	for _, r := range d.rowsOf {
		d.free.slots.give(r)
	}
	d.listsOf[d.id] = d.listsOf[d.id][:d.had]
}

// addList enters backends and finds the row of slots for them: the one that has them already, if any. ok is
// false when there is no room.
func (d *draft) addList(backends []Backend, flag bpf.BackendFlag) (r run, ok bool) {
	if len(backends) == 0 {
		return run{}, true
	}
	ids := make([]uint32, 0, len(backends))
	for _, b := range backends {
		id, ok := d.addBackend(b, flag)
		if !ok {
			return run{}, false
		}
		ids = append(ids, id)
	}
	r.count = uint32(len(ids))
	if r.first, ok = d.rowFor(ids); !ok {
		d.scattered = d.scattered || d.free.slots.size() >= r.count
		return run{}, false
	}
	d.want.lists[r.first] = ids
	d.lists = append(d.lists, r.first)
	d.listsOf[d.id] = append(d.listsOf[d.id], r.first)
	return r, true
}

// rowFor is the first slot for a list: where the service has just been given it, or has it already, or else where a
// row is free.
func (d *draft) rowFor(ids []uint32) (first uint32, ok bool) {
	for _, first := range d.listsOf[d.id] {
		if slices.Equal(d.want.lists[first], ids) {
			return first, true
		}
	}
	for _, has := range d.listsOf[d.id] {
		if slices.Equal(d.have.lists[has], ids) {
			first, ok = has, true
			break
		}
	}
	if ok && !d.squeeze {
		return first, true
	}
	r := run{count: uint32(len(ids))}
	row, found := d.free.slots.take(r.count)
	r.first = row
	switch {
	case !found:
		return first, ok
	case ok && row > first:
		d.free.slots.give(r)
		return first, true
	}
	d.rowsOf = append(d.rowsOf, r)
	return row, true
}

func (d *draft) addBackend(b Backend, flag bpf.BackendFlag) (uint32, bool) {
	entry := bpf.Backend{Addr: bpf.IPOf(b.Addr.Addr()), Port: bpf.PortOf(b.Addr.Port()), Service: d.id, Flags: flag}
	if d.at.isHere(b.Addr.Addr()) {
		entry.Flags |= bpf.PodLabBackendFlagLAB_ON_NODE
	}
	name := nameOf(entry)
	id, ok := d.known[name]
	if !ok {
		if id, ok = d.free.backends.take(1); !ok {
			return 0, false
		}
		d.known[name] = id
		d.fresh = append(d.fresh, name)
	}
	entry.Flags |= d.want.backends[id].Flags
	d.want.backends[id] = entry
	d.backends = append(d.backends, id)
	return id, true
}
