// Package pulse has a process do at the same moments what it does every second or so: being woken takes more CPU time than
// what there is to do then.
package pulse

import "time"

var start = time.Now()

// Until is how long it is to the next moment that is a multiple of every after the process has started.
func Until(every time.Duration) time.Duration {
	return every - time.Since(start)%every
}
