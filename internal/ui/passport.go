package ui

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// explainPatience is how long a packet, and what is seen of it, may take.
const explainPatience = 30 * time.Second

// passport answers with the drawing of the way of a packet that it sends. One is on its way at a time, so that pages make no load.
func (s *Server) passport(w http.ResponseWriter, r *http.Request) {
	if !s.explaining.TryLock() {
		http.Error(w, "another packet is on its way: try again when it has arrived", http.StatusTooManyRequests)
		return
	}
	defer s.explaining.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), explainPatience)
	defer cancel()
	asked := r.URL.Query()
	drawing, err := s.lab.Explain(ctx, asked.Get("from"), asked.Get("to"), asked.Get("protocol"))
	if err != nil {
		http.Error(w, strings.TrimSpace(err.Error()), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write(drawing) // who has gone reads nothing
}
