"""Vendors: one file each, all with the verbs of `driver.vendors.base.Vendor`."""
