"""Binary translation: guest code becomes translation units (TUs) in the translation cache (TC).

Adams & Agesen, "A Comparison of Software and Hardware Techniques for x86 Virtualization" (ASPLOS 2006), section 3.
"""
