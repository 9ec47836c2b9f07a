package datapath

// ForceClsact makes Open attach as it does on kernels before 6.6.
func (c *Config) ForceClsact() { c.forceClsact = true }
