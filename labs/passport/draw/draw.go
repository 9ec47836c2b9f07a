// Package draw draws a passport: nodes with their pods and devices, the programs at their hooks, and the packet's way through them.
// What it draws follows from the passport alone, so the same passport is the same picture, byte for byte.
package draw

import "wirelab.dev/wirelab/labs/passport"

const (
	wide  = 1000
	small = 540
)

// Passport is the whole passport as SVG: the drawing, and below it a row for each step, and what was not seen.
func Passport(p passport.Passport) []byte {
	d := layOut(p, wide)
	d.legend(p)
	return d.svg(p)
}

// Small is the drawing alone, narrow enough to be beside another one.
func Small(p passport.Passport) []byte {
	return layOut(p, small).svg(p)
}
