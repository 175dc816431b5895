"""Several devices, of one machine or of many, behind one address."""
