package lb

import (
	"cmp"
	"slices"
)

// run is a number of consecutive entries of an array.
type run struct{ first, count uint32 }

// rows hands out free rows.
type rows struct{ free []run }

// space is what is free of the arrays.
type space struct{ slots, backends *rows }

// free are the free places of the tables. Places in use are not among them, as a packet may still read them.
func (t *Tables) free(room capacity) space {
	lists := make([]run, 0, len(t.lists))
	for first, list := range t.lists {
		lists = append(lists, run{first, uint32(len(list))})
	}
	backends := make([]run, 0, len(t.backends))
	for id := range t.backends {
		backends = append(backends, run{id, 1})
	}
	return space{freeRows(lists, room.slots), freeRows(backends, room.backends)}
}

// freeRows are what others leave over.
func freeRows(used []run, size uint32) *rows {
	slices.SortFunc(used, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	r := &rows{}
	next := uint32(0)
	for _, u := range used {
		if u.first > next {
			r.free = append(r.free, run{next, u.first - next})
		}
		next = max(next, u.first+u.count)
	}
	if next < size {
		r.free = append(r.free, run{next, size - next})
	}
	return r
}

// take is the first row of the length.
func (r *rows) take(count uint32) (first uint32, ok bool) {
	for i := range r.free {
		f := &r.free[i]
		if f.count < count {
			continue
		}
		first = f.first
		f.first += count
		f.count -= count
		if f.count == 0 {
			r.free = slices.Delete(r.free, i, i+1)
		}
		return first, true
	}
	return 0, false
}

// size is how many entries are free.
func (r *rows) size() (n uint32) {
	for _, f := range r.free {
		n += f.count
	}
	return n
}

// give takes a row back.
func (r *rows) give(back run) {
	i, _ := slices.BinarySearchFunc(r.free, back, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	r.free = slices.Insert(r.free, i, back)
	if next := i + 1; next < len(r.free) && back.first+back.count == r.free[next].first {
		r.free[i].count += r.free[next].count
		r.free = slices.Delete(r.free, next, next+1)
	}
	if i > 0 && r.free[i-1].first+r.free[i-1].count == back.first {
		r.free[i-1].count += r.free[i].count
		r.free = slices.Delete(r.free, i, i+1)
	}
}
