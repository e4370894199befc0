package proxy

// Widen gives the hottest pool of each loop another part, whatever the loops' load.
func (s *Server) Widen() {
	for _, sh := range s.shards {
		sh.loop.Do(sh.widen)
	}
}

// Narrow gives up a part of each pool.
func (s *Server) Narrow() {
	for _, ts := range s.state.Load().tenants {
		for _, l := range ts.all() {
			if ts.first(l) {
				l.narrow()
			}
		}
	}
}

// Moves returns how many sessions have gone to another part of their pool.
func (s *Server) Moves() uint64 { return s.moves.Load() }

// Parts returns how many parts the pools have together.
func (s *Server) Parts() (n int) {
	for _, st := range s.poolStats() {
		n += st.Parts
	}
	return n
}
