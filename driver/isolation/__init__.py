"""Isolation: how a share's limits are put in force, each dimension by one method.

Purpose: one module for each method, all with the four verbs of `driver.isolation.base.IsolationMethod`;
`driver.isolation.choose` picks the method for each dimension of a share; `driver.isolation.rules` refuses,
by name, what a method cannot express.
"""
